"""Which events, and which entry of the blocked-request buffer, each situation leaves at each door (spec B10.3, B11)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import pytest

from codex_network_proxy.addons.authority import Authority, Surroundings
from codex_network_proxy.addons.local_sockets import LocalSockets
from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.decision import (
    Blocked,
    HttpUse,
    IPAddress,
    NetworkDecision,
    NetworkPolicyRequest,
    NetworkProtocol,
    Tunnel,
    Use,
)
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.interfaces import NetworkPolicyDecider
from codex_network_proxy.policy.unix_sockets import UNIX_SOCKET, SocketFile

CLIENT = "127.0.0.1:50001"
LISTED, UNLISTED = "/run/listed.sock", "/run/other.sock"
HOOK = """
[[permissions.t.network.mitm_hooks]]
host = "hooked.test"
[permissions.t.network.mitm_hooks.match]
methods = ["POST"]
path_prefixes = ["/ok"]
"""

Told = tuple[str, str, str, str, bool]
"""Scope, decision, source, reason and override of one event."""


@dataclass(frozen=True, slots=True)
class Door:
    """How requests look that come in here. `label` is what the buffer calls the door."""

    name: str
    protocol: NetworkProtocol
    label: str
    method: str | None
    inner: bool = False

    def request(self, host: str, method: str | None = None, path: str = "/") -> NetworkPolicyRequest:
        method = method or self.method
        if self is UNIX:
            return NetworkPolicyRequest(
                self.protocol, UNIX_SOCKET, HttpUse(method or ""), method, CLIENT, socket_path=host
            )
        use: Use = HttpUse(method or "", self.inner, path) if self.inner or self is PLAIN else Tunnel()
        return NetworkPolicyRequest(self.protocol, parse_endpoint(host, 443), use, method, CLIENT)


PLAIN = Door("plain HTTP", NetworkProtocol.HTTP, "http", "GET")
CONNECT = Door("CONNECT", NetworkProtocol.HTTPS_CONNECT, "http-connect", "CONNECT")
INNER = Door("inside a CONNECT tunnel", NetworkProtocol.HTTPS_CONNECT, "https", "GET", inner=True)
SOCKS = Door("SOCKS5 TCP", NetworkProtocol.SOCKS5_TCP, "socks5", None)
SOCKS_INNER = Door("inside a SOCKS5 tunnel", NetworkProtocol.SOCKS5_TCP, "https", "GET", inner=True)
UDP = Door("SOCKS5 UDP", NetworkProtocol.SOCKS5_UDP, "socks5-udp", None)
UNIX = Door("a unix socket", NetworkProtocol.HTTP, "http", "GET")

DOORS = (PLAIN, CONNECT, INNER, SOCKS, SOCKS_INNER, UDP)
INSIDE = (INNER, SOCKS_INNER)
TUNNELS = (CONNECT, SOCKS)


@dataclass
class World:
    """Resolver, audit sink, clock and decider in one; `answer` is what the decider says."""

    answer: NetworkDecision | Exception | None = None
    events: list[PolicyDecisionEvent] = field(default_factory=list)

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        return (ip_address("10.0.0.1" if name.startswith("local") else "93.184.216.34"),)

    def emit(self, event: PolicyDecisionEvent) -> None:
        self.events.append(event)

    def now(self) -> float:
        return 1_764_000_000.5

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer
        return self.answer


class Files:
    """Every path is a socket of its own."""

    def look_up(self, path: str) -> SocketFile:
        return SocketFile(path, path, (1, sum(path.encode())))


def authority(world: World, lines: Sequence[str], sockets: LocalSockets | None = None) -> Authority:
    values = {
        "enabled": "true",
        "allowed_domains": '["allowed.test", "local.test", "hooked.test", "b\\u00fccher.test"]',
        "denied_domains": '["denied.test"]',
        "allow_unix_sockets": f'["{LISTED}"]',
    }
    values |= {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    table = "\n".join(f"{name} = {value}" for name, value in values.items())
    text = f'default_permissions = "t"\n[permissions.t.network]\n{table}\n{HOOK}'
    decider: NetworkPolicyDecider | None = world if world.answer is not None else None
    policy = NetworkPolicy.compile(load_config(text, file="config.toml").settings)
    return Authority(policy, Surroundings(world, world, world, decider, sockets=sockets))


def told(event: PolicyDecisionEvent) -> Told:
    fields = event.fields()
    scope, decision, source, reason = (
        str(fields[f"network.policy.{key}"]) for key in ("scope", "decision", "source", "reason")
    )
    override = fields["network.policy.override"]
    assert isinstance(override, bool)
    return scope, decision, source, reason, override


ALLOW: Told = ("domain", "allow", "baseline_policy", "allow", False)
HOOK_ALLOW: Told = ("non_domain", "allow", "mode_guard", "allow", False)


def denied(reason: str) -> list[Told]:
    return [("domain", "deny", "baseline_policy", reason, False)]


def guarded(reason: str) -> list[Told]:
    """The host passes, the mode or the hooks refuse: two events."""
    return [ALLOW, ("non_domain", "deny", "mode_guard", reason, False)]


LIMITED, MITM = 'mode = "limited"', "mitm = true"


@dataclass(frozen=True, slots=True)
class Row:
    situation: str
    doors: Sequence[Door]
    events: Sequence[Told]
    host: str = "allowed.test"
    lines: Sequence[str] = (MITM,)
    answer: NetworkDecision | Exception | None = None
    method: str | None = None
    path: str = "/"
    platform: bool = True


def by_decider(decision: str, reason: str, override: bool = False) -> list[Told]:
    return [("domain", decision, "decider", reason, override)]


ROWS = [
    Row("host allowed by the list", DOORS, [ALLOW]),
    Row(
        "allowlist miss, the decider allows",
        DOORS,
        by_decider("allow", "not_allowed", override=True),
        "other.test",
        answer=NetworkDecision.allow(),
    ),
    Row("allowlist miss, no decider", DOORS, denied("not_allowed"), "other.test"),
    Row(
        "the decider denies",
        DOORS,
        by_decider("deny", "too far"),
        "other.test",
        answer=NetworkDecision.deny("too far"),
    ),
    Row(
        "the decider denies without a word",
        DOORS,
        by_decider("deny", "policy_denied"),
        "other.test",
        answer=NetworkDecision.deny(),
    ),
    Row("the decider asks", DOORS, by_decider("ask", "who?"), "other.test", answer=NetworkDecision.ask("who?")),
    Row("the decider fails", DOORS, by_decider("deny", "policy_denied"), "other.test", answer=RuntimeError("a secret")),
    Row("denylisted", DOORS, denied("denied"), "denied.test", answer=NetworkDecision.allow()),
    Row("a local literal", DOORS, denied("not_allowed_local"), "10.0.0.1", answer=NetworkDecision.allow()),
    Row("a name that leads to a private address", DOORS, denied("not_allowed_local"), "local.test"),
    Row(
        "the decider allows a name that leads to a private address",
        DOORS,
        denied("not_allowed_local"),
        "local-too.test",
        answer=NetworkDecision.allow(),
    ),
    Row(
        "the proxy is disabled",
        DOORS,
        [("non_domain", "deny", "proxy_state", "proxy_disabled", False)],
        "denied.test",
        ("enabled = false",),
        NetworkDecision.allow(),
    ),
    Row("limited mode, a method that reads", (PLAIN, *INSIDE), [ALLOW], lines=(LIMITED, MITM)),
    Row(
        "limited mode, a method that writes",
        (PLAIN, *INSIDE),
        guarded("method_not_allowed"),
        lines=(LIMITED, MITM),
        method="POST",
    ),
    Row("limited mode, SOCKS", (SOCKS, UDP), guarded("method_not_allowed"), lines=(LIMITED, MITM)),
    Row("limited mode, CONNECT that can be read", (CONNECT,), [ALLOW], lines=(LIMITED, MITM)),
    Row("limited mode, CONNECT that cannot", (CONNECT,), guarded("mitm_required"), lines=(LIMITED,)),
    Row(
        "limited mode, a method that writes to a host that the decider allows",
        (PLAIN,),
        [
            ("domain", "allow", "decider", "not_allowed", True),
            ("non_domain", "deny", "mode_guard", "method_not_allowed", False),
        ],
        "other.test",
        (LIMITED,),
        NetworkDecision.allow(),
        "POST",
    ),
    Row(
        "limited mode, a method that writes to a denied host",
        (PLAIN, *INSIDE),
        denied("denied"),
        "denied.test",
        (LIMITED, MITM),
        method="POST",
    ),
    Row("a hooked host, without interception", (*TUNNELS, UDP), guarded("mitm_required"), "hooked.test", ()),
    Row("a hooked host, over UDP", (UDP,), guarded("mitm_required"), "hooked.test"),
    Row("a hooked host, in clear", (PLAIN,), guarded("mitm_required"), "hooked.test"),
    Row("a hooked host, as a tunnel to be read", TUNNELS, [ALLOW], "hooked.test"),
    Row("a hook matches", INSIDE, [ALLOW, HOOK_ALLOW], "hooked.test", method="POST", path="/ok"),
    Row("no hook matches", INSIDE, guarded("mitm_hook_denied"), "hooked.test", method="POST", path="/no"),
    Row(
        "a hook matches, limited mode refuses the method",
        INSIDE,
        [ALLOW, HOOK_ALLOW, ("non_domain", "deny", "mode_guard", "method_not_allowed", False)],
        "hooked.test",
        (LIMITED, MITM),
        method="POST",
        path="/ok",
    ),
]


ALLOWS = NetworkDecision.allow()


def at_socket(decision: str, source: str, reason: str) -> list[Told]:
    return [("non_domain", decision, source, reason, False)]


ROWS += [
    Row("allowed", (UNIX,), at_socket("allow", "proxy_state", "allow"), LISTED),
    Row(
        "not allowed",
        (UNIX,),
        at_socket("deny", "proxy_state", "not_allowed"),
        UNLISTED,
        answer=NetworkDecision.allow(),
    ),
    Row("platform", (UNIX,), at_socket("deny", "proxy_state", "unix_socket_unsupported"), LISTED, platform=False),
    Row("method", (UNIX,), at_socket("deny", "mode_guard", "method_not_allowed"), LISTED, (LIMITED,), method="POST"),
    Row("disabled", (UNIX,), at_socket("deny", "proxy_state", "proxy_disabled"), LISTED, ("enabled = false",)),
]

CASES = [pytest.param(row, door, id=f"{row.situation}: {door.name}") for row in ROWS for door in row.doors]


@pytest.mark.parametrize(("row", "door"), CASES)
def test_each_situation_leaves_its_events_and_its_entry(row: Row, door: Door, caplog: pytest.LogCaptureFixture) -> None:
    world = World(row.answer)
    judge = authority(world, row.lines, LocalSockets(Files()) if row.platform else None)
    with caplog.at_level(logging.DEBUG):
        verdict = asyncio.run(judge.decide(door.request(row.host, row.method, row.path)))
    judge.close()
    assert [told(event) for event in world.events] == list(row.events)
    for event in world.events:
        fields = event.fields()
        assert fields["event.name"] == "codex.network_proxy.policy_decision"
        assert (fields["server.address"], fields["server.port"]) == (
            ("unix-socket", 0) if door is UNIX else (row.host, 443)
        )
        assert fields["network.transport.protocol"] == door.protocol
        assert fields["http.request.method"] == (row.method or door.method or "none")
        assert fields["client.address"] == CLIENT
        assert fields["request.id"] == verdict.request_id
    assert isinstance(verdict, Blocked) == (row.events[-1][1] != "allow")
    check_entry(judge, row, door, caplog)


def check_entry(judge: Authority, row: Row, door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """One entry and one line for programs for each block, and none for what passes.

    Of unix sockets only a proxy that is disabled has one (spec B11.2).
    """
    _, decision, source, reason, _ = row.events[-1]
    said = [text for text in caplog.messages if text.startswith("CODEX_NETWORK_POLICY_VIOLATION ")]
    if decision == "allow" or (door is UNIX and reason != "proxy_disabled"):
        assert (judge.blocked.snapshot(), said) == ((), [])
        return
    (entry,) = judge.blocked.snapshot()
    inner, disabled = door.inner, reason == "proxy_disabled"
    kept = inner and not disabled
    expected: dict[str, object] = {"host": row.host, "reason": reason, "client": CLIENT}
    expected["method"] = row.method or door.method
    expected["mode"] = judge.mode.value if source == "mode_guard" or kept else None
    expected["protocol"] = door.protocol.value if disabled else door.label
    if not kept:
        expected |= {"decision": decision, "source": source}
    expected |= {"port": 0 if door is UNIX else 443, "timestamp": 1_764_000_000}
    assert list(entry.fields().items()) == list(expected.items())
    assert [json.loads(text.partition(" ")[2]) for text in said] == [expected]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_the_host_is_told_in_its_canonical_spelling(door: Door) -> None:
    world = World()
    asyncio.run(
        authority(world, ()).decide(replace(door.request("x"), target=parse_endpoint("B\u00dcCHER.test.", 443)))
    )
    assert {event.fields()["server.address"] for event in world.events} == {"xn--bcher-kva.test"}


def test_a_client_that_nobody_knows_is_called_so() -> None:
    world = World()
    asyncio.run(authority(world, ()).decide(replace(SOCKS.request("allowed.test"), client_address=None)))
    fields = world.events[0].fields()
    assert (fields["client.address"], fields["http.request.method"]) == ("unknown", "none")
