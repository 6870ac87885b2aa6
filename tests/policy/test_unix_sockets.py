"""Unix sockets: which path may be reached, and in which order the other rules speak (spec A9, B1.8, B4.4; L05)."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    Decision,
    DecisionSource,
    HttpUse,
    IPAddress,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
    Tunnel,
    Use,
    Verdict,
)
from codex_network_proxy.policy.engine import NetworkPolicy, World, decide
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.settings import NetworkSettings
from codex_network_proxy.policy.unix_paths import LONGEST, is_plain_path
from codex_network_proxy.policy.unix_sockets import (
    UNIX_SOCKET,
    SocketFile,
    SocketRules,
    keeps_socket,
)

SOCKET, DOCKER = "/run/app/api.sock", "/var/run/docker.sock"
GET, POST = HttpUse("GET"), HttpUse("POST")


@dataclass
class FakeFiles:
    """Paths and where they lead; what is not named here is not there, and `unreadable` cannot be looked at."""

    leads: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=lambda: {SOCKET: 1, DOCKER: 2})
    unreadable: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)

    def look_up(self, path: str) -> SocketFile:
        self.asked.append(path)
        if path in self.unreadable:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        real = self.leads.get(path, path)
        number = self.numbers.get(real)
        return SocketFile(path, real, None if number is None else (7, number))


def rules(*allowed: str, denied: tuple[str, ...] = (), allow_all: bool = False) -> SocketRules:
    return SocketRules(allowed, denied, allow_all)


PATHS = [
    pytest.param(rules(SOCKET), SOCKET, SOCKET, id="the path that is allowed"),
    pytest.param(rules(), SOCKET, None, id="nothing is allowed"),
    pytest.param(rules(DOCKER), SOCKET, None, id="another path is allowed"),
    pytest.param(rules("/run/app"), SOCKET, None, id="a folder opens nothing below it"),
    pytest.param(rules(SOCKET), "/run//app/./api.sock", SOCKET, id="slashes and dots mean nothing"),
    pytest.param(rules(SOCKET), "/RUN/APP/API.SOCK", None, id="case counts where it counts to the file system"),
    pytest.param(rules(SOCKET), "/tmp/link", SOCKET, id="a link to an allowed socket"),
    pytest.param(rules("/tmp/link"), SOCKET, SOCKET, id="the socket behind an allowed link"),
    pytest.param(rules("/tmp/link"), "/tmp/other-link", SOCKET, id="two links to one socket"),
    pytest.param(rules("/tmp/link"), "/tmp/link", SOCKET, id="an allowed link"),
    pytest.param(rules(SOCKET), "/tmp/to-docker", None, id="L05: a link to a socket that is not allowed"),
    pytest.param(rules("/run/app/../app/x", SOCKET), "/run/later.sock", None, id="a file that is not there"),
    pytest.param(rules("/run/later.sock"), "/run/later.sock", "/run/later.sock", id="allowed, and not there yet"),
    pytest.param(rules(allow_all=True), DOCKER, DOCKER, id="everything is allowed"),
    pytest.param(rules(DOCKER, denied=(DOCKER,)), DOCKER, None, id="deny wins"),
    pytest.param(rules(denied=(DOCKER,), allow_all=True), DOCKER, None, id="deny wins over everything"),
    pytest.param(rules(denied=(DOCKER,), allow_all=True), "/tmp/to-docker", None, id="deny wins behind a link"),
    pytest.param(rules(denied=("/tmp/to-docker",), allow_all=True), DOCKER, None, id="a denied link denies its socket"),
    pytest.param(rules(denied=(DOCKER,), allow_all=True), SOCKET, SOCKET, id="a deny of another socket"),
    pytest.param(
        rules("/tmp/to-docker", denied=(DOCKER,)), "/tmp/to-docker", None, id="deny wins over an allowed link"
    ),
    pytest.param(rules("/locked", SOCKET), "/tmp/link", SOCKET, id="an allowed path that cannot be looked at"),
    pytest.param(rules("/tmp/link", denied=("/locked",)), "/tmp/link", None, id="a denied one closes: it may be this"),
    pytest.param(rules(allow_all=True), "/locked", None, id="a path that cannot be looked at"),
]


@pytest.mark.parametrize(("given", "path", "reached"), PATHS)
def test_a_path(given: SocketRules, path: str, reached: str | None) -> None:
    leads = {"/tmp/link": SOCKET, "/tmp/other-link": SOCKET, "/tmp/to-docker": DOCKER}
    found = given.find(path, FakeFiles(leads, unreadable=frozenset({"/locked"})))
    assert (found.real if found else None) == reached


def test_one_file_under_two_names_is_one_socket() -> None:
    """A hard link, or a file system that takes `A` for `a`."""
    files = FakeFiles(numbers={"/a.sock": 5, "/A.sock": 5})
    assert rules("/a.sock").find("/A.sock", files) == SocketFile("/A.sock", "/A.sock", (7, 5))
    assert rules("/a.sock", denied=("/A.sock",)).find("/a.sock", files) is None


def test_further_paths_can_be_denied() -> None:
    assert rules(SOCKET).but((SOCKET,)).find(SOCKET, FakeFiles()) is None
    assert rules(SOCKET).but(()).find(SOCKET, FakeFiles()) is not None


BAD_PATHS = [
    pytest.param("", id="nothing"),
    pytest.param("run/app/api.sock", id="a relative path"),
    pytest.param("~/api.sock", id="a home folder"),
    pytest.param("/run/app/../app/api.sock", id="two dots, which may lead elsewhere behind a link"),
    pytest.param("/run/..", id="two dots at the end"),
    pytest.param("/run/app/api.sock%00.txt", id="an escaped NUL"),
    pytest.param("/run/app/api.sock\0", id="a NUL"),
    pytest.param("/run/\u00fc.sock", id="a letter above ASCII"),
    pytest.param("/" + "a" * LONGEST, id="too long"),
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_no_file_is_looked_at_for_a_bad_path(path: str) -> None:
    files = FakeFiles()
    assert rules(allow_all=True).find(path, files) is None
    assert not is_plain_path(path)
    assert not files.asked


def test_the_longest_path() -> None:
    assert is_plain_path("/" + "a" * (LONGEST - 1))
    assert is_plain_path("/run/..hidden/a..b")


@dataclass
class FakeFinder:
    files: FakeFiles = field(default_factory=FakeFiles)

    async def find(self, rules: SocketRules, path: str) -> SocketFile | None:
        return rules.find(path, self.files)

    def permit(self, rules: SocketRules, found: SocketFile) -> bool:
        return rules.permit(found, self.files)


def request(use: Use = GET, client: str | None = "127.0.0.1:5", path: str = SOCKET) -> NetworkPolicyRequest:
    return NetworkPolicyRequest(NetworkProtocol.HTTP, UNIX_SOCKET, use, "GET", client, socket_path=path)


class NoResolver:
    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        raise AssertionError("a socket has no name to look up")


def answer(settings: NetworkSettings, asked: NetworkPolicyRequest, finder: FakeFinder | None) -> Verdict:
    world = World(NoResolver(), lambda: "id-1", lambda address, port: False, sockets=finder)
    return asyncio.run(decide(NetworkPolicy.compile(settings), asked, world))


OPEN = NetworkSettings(enabled=True, unix_sockets=(SOCKET,))
LIMITED = replace(OPEN, mode=NetworkMode.LIMITED)
CLOSED = NetworkSettings(enabled=True)
HERE = FakeFinder()
STATE, GUARD = DecisionSource.PROXY_STATE, DecisionSource.MODE_GUARD
ANSWERS = [
    pytest.param(OPEN, request(POST), HERE, ("allow", STATE), id="allowed"),
    pytest.param(LIMITED, request(), HERE, ("allow", STATE), id="limited mode reads"),
    pytest.param(replace(OPEN, enabled=False), request(), None, ("proxy_disabled", STATE), id="disabled comes first"),
    pytest.param(LIMITED, request(POST), None, ("method_not_allowed", GUARD), id="the method, before the platform"),
    pytest.param(LIMITED, request(HttpUse("GET", has_body=True)), HERE, ("method_not_allowed", GUARD), id="a body"),
    pytest.param(LIMITED, request(HttpUse("GET", upgrade="websocket")), HERE, ("method_not_allowed", GUARD),
                 id="an upgrade"),
    pytest.param(OPEN, request(Tunnel()), HERE, ("method_not_allowed", GUARD), id="bytes without a meaning"),
    pytest.param(CLOSED, request(), None, ("unix_socket_unsupported", STATE), id="the platform, before the path"),
    pytest.param(CLOSED, request(), HERE, ("not_allowed", STATE), id="a path that is not allowed"),
    pytest.param(OPEN, request(path="api.sock"), HERE, ("not_allowed", STATE), id="a path that is none"),
    pytest.param(OPEN, request(client="[::1]:5"), HERE, ("allow", STATE), id="a client on IPv6 loopback"),
    pytest.param(OPEN, request(client="[::ffff:127.0.0.1]:5"), HERE, ("allow", STATE), id="a mapped one"),
    pytest.param(OPEN, request(client="192.168.1.7:5"), HERE, ("not_allowed", STATE), id="a client on another machine"),
    pytest.param(OPEN, request(client="[fd00::1]:5"), HERE, ("not_allowed", STATE), id="such a client on IPv6"),
    pytest.param(OPEN, request(client=None), HERE, ("not_allowed", STATE), id="a client that nobody knows"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "asked", "finder", "expected"), ANSWERS)
def test_the_order_of_the_rules(
    settings: NetworkSettings,
    asked: NetworkPolicyRequest,
    finder: FakeFinder | None,
    expected: tuple[str, DecisionSource],
) -> None:
    verdict = answer(settings, asked, finder)
    assert isinstance(verdict, Allowed | Blocked)
    decision = Decision.ALLOW if expected[0] == "allow" else Decision.DENY
    # Without the path: rulings go into the audit log.
    assert verdict.rulings == (Ruling(decision, *expected, PolicyScope.NON_DOMAIN),)
    assert isinstance(verdict, Allowed) is (decision is Decision.ALLOW)


def test_an_allowed_request_has_a_file_and_no_address() -> None:
    verdict = answer(OPEN, request(), HERE)
    assert isinstance(verdict, Allowed)
    assert (verdict.socket, verdict.addresses) == (SocketFile(SOCKET, SOCKET, (7, 1)), ())


STANDING = [
    pytest.param(OPEN, HERE, GET, True, id="nothing changed"),
    pytest.param(CLOSED, HERE, GET, False, id="its entry is gone"),
    pytest.param(replace(OPEN, denied_unix_sockets=(SOCKET,)), HERE, GET, False, id="it is denied now"),
    pytest.param(LIMITED, HERE, POST, False, id="limited mode, while it writes"),
    pytest.param(LIMITED, HERE, GET, True, id="limited mode, while it reads"),
    pytest.param(OPEN, None, GET, False, id="no sockets here at all"),
]


@pytest.mark.parametrize(("settings", "finder", "use", "stands"), STANDING)
def test_an_open_connection_after_a_reload(
    settings: NetworkSettings, finder: FakeFinder | None, use: Use, stands: bool
) -> None:
    found = SocketFile(SOCKET, SOCKET, (7, 1))
    assert keeps_socket(NetworkPolicy.compile(settings), request(use), found, finder) is stands


def test_the_rules_come_from_the_configuration() -> None:
    text = f"""
default_permissions = "w"
[permissions.w.network]
allow_unix_sockets = ["{SOCKET}", "/tmp/a/../b.sock"]
unix_sockets = {{ "{DOCKER}" = "deny", "/c.sock" = "allow" }}
dangerously_allow_all_unix_sockets = true
"""
    policy = NetworkPolicy.compile(load_config(text, file="config.toml").settings)
    assert policy.unix_sockets == SocketRules((SOCKET, "/tmp/b.sock", "/c.sock"), (DOCKER,), allow_all=True)
