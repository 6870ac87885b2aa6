"""Requests for a unix socket: refused before anything else looks at them (spec A9, B4.4)."""

from __future__ import annotations

import json

import pytest
from mitmproxy import http

from codex_network_proxy.addons.unix_sockets import UnixSockets

from .engine_kit import configuration
from .flow_kit import Bench, Pairs, answered, bench

SOCKET = [("x-unix-socket", "/run/docker.sock")]


def ask(here: Bench, fields: Pairs = SOCKET, method: str = "GET") -> http.HTTPFlow:
    flow = here.flow(fields=fields, method=method)
    UnixSockets().requestheaders(flow)
    return flow


def test_this_platform_has_none() -> None:
    with bench() as here:
        flow = ask(here)
        assert answered(flow) == (501, "unix sockets unsupported")
        assert flow.response
        assert "x-proxy-error" not in flow.response.headers
        assert here.world.told() == [("deny", "unix_socket_unsupported")]
        event = here.world.events[0].fields()
        assert (event["server.address"], event["server.port"]) == ("unix-socket", 0)


def test_limited_mode_comes_first() -> None:
    with bench(configuration("limited")) as here:
        flow = ask(here, method="POST")
        assert flow.response
        assert (flow.response.status_code, flow.response.headers["x-proxy-error"]) == (403, "blocked-by-method-policy")
        assert json.loads(answered(flow)[1]) == {
            "status": "blocked",
            "host": "unix-socket",
            "reason": "method_not_allowed",
        }
        assert flow.response.headers["content-length"] == str(len(flow.response.content or b""))


@pytest.mark.parametrize(
    ("lines", "status"), [(["enabled = false"], 503), ([], 501)], ids=["the proxy is off", "the proxy is on"]
)
def test_a_proxy_that_is_off(lines: list[str], status: int) -> None:
    with bench(configuration(lines=lines)) as here:
        assert answered(ask(here))[0] == status


def test_a_broken_configuration() -> None:
    with bench() as here:
        here.authority.replace(None)
        assert answered(ask(here)) == (500, "error")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([*SOCKET, *SOCKET], id="two fields"),
        pytest.param([("X-Unix-Socket", "/a"), ("x-unix-socket", "/b")], id="two fields in different case"),
        pytest.param([("x-unix-socket", "/a\tb")], id="a control character"),
        pytest.param([("x-unix-socket", "/\u00fc")], id="a letter above ASCII"),
    ],
)
def test_malformed_fields(fields: Pairs) -> None:
    with bench() as here:
        assert answered(ask(here, fields)) == (400, "invalid x-unix-socket header")
        assert not here.world.events


def test_inside_a_tunnel_it_means_nothing_good() -> None:
    with bench() as here:
        here.enter()
        flow = here.flow("https://hooked.test/ok", SOCKET)
        UnixSockets().requestheaders(flow)
        assert answered(flow) == (400, "invalid x-unix-socket header")


def test_other_requests_and_strangers_are_left_alone() -> None:
    with bench() as here:
        assert answered(ask(here, [])) == (0, "")
        here.session.tenant = None
        assert answered(ask(here)) == (0, "")
