"""Requests for a unix socket: judged before anything else looks at them, and never sent to a host (spec A9, B4.4)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mitmproxy import http

from codex_network_proxy.addons.allowlist import Allowlist
from codex_network_proxy.addons.approval import Approval
from codex_network_proxy.addons.authority import Authority
from codex_network_proxy.addons.blocked import refuse_undecided
from codex_network_proxy.addons.headers import Headers
from codex_network_proxy.addons.limited_mode import LimitedMode
from codex_network_proxy.addons.local_sockets import LocalSockets
from codex_network_proxy.addons.unix_sockets import UnixSockets
from codex_network_proxy.policy.unix_sockets import SocketFile

from .engine_kit import configuration
from .flow_kit import Bench, Pairs, answered, bench, compiled, lines, run

PATH, REAL = "/run/link.sock", "/run/app/api.sock"
SOCKET = [("x-unix-socket", PATH)]
OPEN = ['allow_unix_sockets = ["/run/app/api.sock"]']


class Files:
    def look_up(self, path: str) -> SocketFile:
        return SocketFile(path, REAL if path == PATH else path, (1, 2) if path in (PATH, REAL) else (1, 3))


@contextmanager
def mac(text: str | None = None) -> Iterator[Bench]:
    """As on a platform that has unix sockets."""
    sockets = LocalSockets(Files())
    with bench(text or configuration(lines=OPEN), sockets=sockets) as here:
        yield here
    sockets.close()


def ask(here: Bench, fields: Pairs = SOCKET, method: str = "GET", *, body: bool = False) -> http.HTTPFlow:
    """A request whose target was no host, as the reading of the head leaves it."""
    flow = here.flow("http://unix-socket:1/v1?q=1", fields, method, body=body)
    flow.request.data.port = 0
    return run(UnixSockets().requestheaders, flow)


def short(flow: http.HTTPFlow) -> dict[str, str]:
    """The short JSON, without the id that it has from the header."""
    assert flow.response
    assert flow.response.status_code == 403
    assert flow.response.headers["content-length"] == str(len(flow.response.content or b""))
    found = json.loads(answered(flow)[1])
    assert found.pop("request_id") == flow.response.headers["x-proxy-request-id"]
    return {**found, "code": flow.response.headers["x-proxy-error"]}


def test_this_platform_has_none() -> None:
    with bench(configuration(lines=OPEN)) as here:
        flow = ask(here)
        assert answered(flow) == (501, "unix sockets unsupported")
        assert flow.response
        assert "x-proxy-error" not in flow.response.headers
        assert here.world.told() == [("deny", "unix_socket_unsupported")]


def test_an_allowed_one_is_a_candidate_for_the_file_itself() -> None:
    with mac() as here:
        flow = ask(here, [*SOCKET, ("host", "docker"), ("upgrade", "tcp")], "POST", body=True)
        assert answered(flow) == (0, "")
        assert (flow.request.data.host, flow.request.data.port, flow.request.data.path) == (REAL, 0, b"/v1?q=1")
        assert flow.request.headers["host"] == "docker"
        assert "upgrade" not in flow.request.headers
        assert flow.comment.startswith(f"unix socket {REAL} (id ")
        assert here.session.candidates[flow.id].socket == SocketFile(PATH, REAL, (1, 2))
        assert here.world.told() == [("allow", "allow")]
        event = here.world.events[0].fields()
        assert (event["network.policy.scope"], event["network.policy.source"]) == ("non_domain", "proxy_state")
        assert (event["server.address"], event["server.port"]) == ("unix-socket", 0)
        assert event["network.transport.protocol"] == "http"
        assert "sock" not in here.world.events[0].json_line().replace("unix-socket", ""), "the path is not in it"


def test_a_request_without_a_host_gets_one() -> None:
    with mac() as here:
        assert ask(here).request.headers["host"] == "localhost"


def test_the_rest_of_the_chain_leads_it_to_the_file() -> None:
    with mac() as here:
        flow = ask(here, [*SOCKET, ("host", "denied.test"), ("connection", "keep-alive")])
        for addon in (Headers(), Allowlist(), LimitedMode(), Approval()):
            run(addon.requestheaders, flow)
        assert answered(flow) == (0, "")
        assert lines(flow) == [("host", "denied.test")], "L06: the field goes nowhere; the host is but a header"
        approved = here.session.approved(flow)
        assert approved is not None
        assert here.session.grants == {(REAL, 0): approved}
        assert len(here.world.events) == 1, "no host was judged"


@pytest.mark.parametrize(
    ("text", "method", "body", "reason", "code"),
    [
        pytest.param(
            configuration("limited", lines=OPEN), "POST", False, "method_not_allowed", "blocked-by-method-policy",
            id="limited mode reads only",
        ),
        pytest.param(
            configuration("limited", lines=OPEN), "GET", True, "method_not_allowed", "blocked-by-method-policy",
            id="a body writes",
        ),
        pytest.param(configuration(), "GET", False, "not_allowed", "blocked-by-allowlist", id="not on the list"),
    ],
)  # fmt: skip
def test_blocks(text: str, method: str, body: bool, reason: str, code: str) -> None:
    with mac(text) as here:
        flow = ask(here, method=method, body=body)
        assert short(flow) == {"status": "blocked", "host": "unix-socket", "reason": reason, "code": code}
        assert here.world.told() == [("deny", reason)]
        assert flow.marked
        assert not here.session.candidates
        assert not here.authority.blocked.snapshot(), "B11.2: not recorded"


def test_mitmweb_says_why() -> None:
    with mac(configuration()) as here:
        assert ask(here).comment.startswith("not_allowed: no entry of allow_unix_sockets is this file (blocked-by-")


def test_limited_mode_lets_reading_pass() -> None:
    with mac(configuration("limited", lines=OPEN)) as here:
        assert answered(ask(here)) == (0, "")


def test_a_proxy_that_is_off() -> None:
    with mac(configuration(lines=[*OPEN, "enabled = false"])) as here:
        assert answered(ask(here)) == (503, "Codex blocked this request by network policy.")
        (entry,) = here.authority.blocked.snapshot()
        assert (entry.host, entry.port, entry.protocol, entry.reason) == (PATH, 0, "http", "proxy_disabled")


def test_a_broken_configuration() -> None:
    with mac() as here:
        here.authority.replace(None)
        assert answered(ask(here)) == (500, "error")


def test_a_client_of_another_machine() -> None:
    with mac() as here:
        here.session.client_address = "192.168.1.7:5"
        assert short(ask(here))["reason"] == "not_allowed"


INVALID = [
    pytest.param([*SOCKET, *SOCKET], id="two fields"),
    pytest.param([("X-Unix-Socket", "/a"), ("x-unix-socket", "/b")], id="two fields in different case"),
    pytest.param([("x-unix-socket", "/a\tb")], id="a control character"),
    pytest.param([("x-unix-socket", "/\u00fc")], id="a letter above ASCII"),
]


@pytest.mark.parametrize("fields", INVALID)
def test_malformed_fields(fields: Pairs) -> None:
    with mac() as here:
        assert answered(ask(here, fields)) == (400, "invalid x-unix-socket header")
        assert not here.world.events


@pytest.mark.parametrize(
    "value", ["", "run.sock", "/run/app/../app/api.sock", "/run/app/api.sock%00", "/" + "a" * 2000]
)
def test_l05_paths_that_are_none(value: str) -> None:
    with mac(configuration(lines=["dangerously_allow_all_unix_sockets = true"])) as here:
        assert short(ask(here, [("x-unix-socket", value)]))["reason"] == "not_allowed"


def test_l05_inside_a_tunnel_it_means_nothing_good() -> None:
    with mac() as here:
        here.enter()
        flow = run(UnixSockets().requestheaders, here.flow("https://hooked.test/ok", SOCKET))
        assert answered(flow) == (400, "invalid x-unix-socket header")


def test_other_requests_and_strangers_are_left_alone() -> None:
    with mac() as here:
        assert answered(ask(here, [])) == (0, "")
        assert answered(run(UnixSockets().requestheaders, here.flow())) == (0, "")
        here.session.tenant = None
        assert answered(ask(here)) == (0, "")


def test_a_failure_inside_is_a_recorded_deny(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(self: Authority, request: object) -> None:
        raise RuntimeError(PATH)

    monkeypatch.setattr(Authority, "decide", broken)
    with mac() as here, caplog.at_level(logging.ERROR):
        flow = ask(here)
        assert short(flow)["reason"] == "policy_denied"
        assert here.world.told() == [("deny", "policy_denied")]
        assert PATH not in caplog.text


def test_one_that_was_changed_after_it_was_allowed_is_refused_in_the_same_form() -> None:
    with mac() as here:
        flow = ask(here)
        Approval().requestheaders(flow)
        flow.request.data.path = b"/other"
        assert here.session.approved(flow) is None
        refuse_undecided(flow)
        assert short(flow)["reason"] == "policy_denied"


def test_a_mode_that_narrows_in_between_is_noticed() -> None:
    with mac() as here:
        flow = ask(here, method="POST")
        here.authority.replace(compiled(configuration("limited", lines=OPEN)))
        LimitedMode().requestheaders(flow)
        assert short(flow)["reason"] == "method_not_allowed"
