"""Plain requests to an upstream proxy: in absolute form on the wire, as they were in the flow, and its trouble told."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mitmproxy import http

from codex_network_proxy.addons.http1_messages import request_head
from codex_network_proxy.addons.upstream_connect import NEEDS_CREDENTIALS, WRONG_CREDENTIALS
from codex_network_proxy.addons.upstream_forward import ProxyHop, forwards, hop_of
from codex_network_proxy.policy.decision import HttpUse, Use
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.upstream import UpstreamProxy

from .engine_kit import Lab, laboratory
from .flow_kit import bench
from .http1_requests import get
from .test_sessions import approved
from .upstream_kit import FakeUpstream, Peer, Talk, through

PASSWORD = "canary"
BASIC = f"Basic {base64.b64encode(f'user:{PASSWORD}'.encode()).decode()}"
PLAIN = HttpUse("GET")
PROXY = UpstreamProxy(parse_endpoint("proxy.test:8080"))


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        pytest.param(PLAIN, True, id="a plain request"),
        pytest.param(HttpUse("GET", secure=True), False, id="https"),
        pytest.param(HttpUse("GET", upgrade="websocket"), False, id="a plain WebSocket"),
        pytest.param(None, False, id="a tunnel"),
    ],
)
def test_what_is_forwarded(use: Use | None, expected: bool) -> None:
    verdict = through(PROXY, use=use)
    assert forwards(verdict) is expected
    assert not forwards(replace(verdict, upstream=None))


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        ("allowed.test:80", b"http://allowed.test"),
        ("allowed.test:8080", b"http://allowed.test:8080"),
        ("[2001:DB8::1]:80", b"http://[2001:db8::1]"),
        ("[2001:DB8::1]:443", b"http://[2001:db8::1]:443"),
    ],
)
def test_the_absolute_form(target: str, origin: bytes) -> None:
    hop = hop_of(through(PROXY, target, PLAIN))
    assert (hop.target(b"/p?q=http://x/"), hop.target(b"*")) == (origin + b"/p?q=http://x/", origin)


def test_credentials_are_for_the_wire_alone() -> None:
    hop = hop_of(through(replace(PROXY, authorization=BASIC), use=PLAIN))
    assert hop.fields == [(b"proxy-authorization", BASIC.encode())]
    assert BASIC not in repr(hop)
    assert hop_of(through(PROXY, use=PLAIN)).fields == []


def test_a_head_for_an_upstream_proxy() -> None:
    asked = http.Request.make("POST", "http://allowed.test/p", b"", [(b"host", b"allowed.test")])
    before = asked.copy()
    hop = ProxyHop(b"http://allowed.test", BASIC.encode())
    lines = request_head(asked, end_stream=True, hop=hop).data.split(b"\r\n")
    assert lines[0] == b"POST http://allowed.test/p HTTP/1.1"
    assert b"proxy-authorization: " + BASIC.encode() in lines
    assert asked.data == before.data, "what others see stays as it was"


def test_a_session_knows_where_requests_are_forwarded_to() -> None:
    with bench() as here:
        verdict = here.session.approvals[approved(here).id].verdict
        here.session.dialled_under("direct", verdict)
        here.session.dialled_under("forwarding", replace(verdict, upstream=PROXY))
        assert list(here.session.forwarding) == ["forwarding"]
        assert here.session.dialled["forwarding"].upstream is PROXY
        here.session.closed("forwarding")
        here.session.closed("direct")
        assert (here.session.forwarding, here.session.dialled) == ({}, {})


# -- in the engine ---------------------------------------------------------------------------------------------------


def answering(raw: bytes) -> Talk:
    async def talk(peer: Peer) -> None:
        await peer.asked()
        await peer.say(raw)

    return talk


def play_behind(
    talk: Talk, scenario: Callable[[Lab, FakeUpstream], Awaitable[None]], folder: Path, login: str = ""
) -> None:
    async def run() -> None:
        async with FakeUpstream(talk) as upstream:
            environ = {"HTTP_PROXY": f"http://{login}127.0.0.1:{upstream.port}"}
            async with laboratory(folder, environ=environ) as lab:
                await scenario(lab, upstream)

    asyncio.run(run())


def test_what_the_flow_shows_and_what_is_sent(tmp_path: Path) -> None:
    async def scenario(lab: Lab, upstream: FakeUpstream) -> None:
        view = lab.show()
        answer = await (await lab.client()).ask(get(8080, b"/ok?x=1"))
        assert (answer.status, answer.body) == (200, b"fine")
        (head,) = upstream.heads
        assert head.startswith(b"GET http://allowed.test:8080/ok?x=1 HTTP/1.1\r\n")
        assert BASIC.encode() in head
        (flow,) = view
        assert isinstance(flow, http.HTTPFlow)
        assert flow.request.path == "/ok?x=1"
        assert "proxy-authorization" not in flow.request.headers
        assert PASSWORD not in repr(flow.get_state())
        assert BASIC not in repr(flow.get_state())

    play_behind(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine"), scenario, tmp_path, f"user:{PASSWORD}@")


TROUBLE = [
    pytest.param(b"HTTP/1.1 407 No\r\nproxy-authenticate: Basic\r\ncontent-length: 6\r\n\r\ncanary",
                 "", NEEDS_CREDENTIALS, id="no credentials"),
    pytest.param(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n", "user:x@", WRONG_CREDENTIALS, id="wrong credentials"),
    pytest.param(b"", "", "the upstream proxy closed the connection", id="the end"),
    pytest.param(b"canary\r\n\r\n", "", "the upstream proxy sent no valid HTTP response", id="garbage"),
    pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"canary" * 20_000, "",
                 "the upstream proxy's response head is too large", id="an endless head"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "login", "text"), TROUBLE)
def test_its_trouble_is_told(
    raw: bytes, login: str, text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(lab: Lab, upstream: FakeUpstream) -> None:
        answer = await (await lab.client()).ask(get(8080))
        assert (answer.status, answer.body.decode()) == (502, f"upstream failure: {text}")
        assert answer.get("proxy-authenticate") is None

    with caplog.at_level("DEBUG"):
        play_behind(answering(raw), scenario, tmp_path, login)
    assert "canary" not in caplog.text
    assert f"upstream request failed: upstream failure: {text}" in caplog.text


@pytest.mark.parametrize(
    ("field", "connections"),
    [
        pytest.param(b"", 3, id="one that does not say whether it goes on"),
        pytest.param(b"connection: keep-alive\r\n", 1, id="one that goes on"),
        pytest.param(b"connection: x, close\r\n", 3, id="one that ends"),
    ],
)
def test_a_connection_is_used_again_if_the_upstream_proxy_says_so(
    field: bytes, connections: int, tmp_path: Path
) -> None:
    async def talk(peer: Peer) -> None:
        while True:
            await peer.asked()
            await peer.say(b"HTTP/1.1 200 OK\r\n" + field + b"content-length: 2\r\n\r\nok")

    async def scenario(lab: Lab, upstream: FakeUpstream) -> None:
        client = await lab.client()
        for _ in range(3):
            assert (await client.ask(get(8080))).body == b"ok"
        assert len(upstream.tasks) == connections

    play_behind(talk, scenario, tmp_path)


@pytest.mark.parametrize("status", [403, 404, 502])
def test_other_answers_are_the_clients_business(status: int, tmp_path: Path) -> None:
    async def scenario(lab: Lab, upstream: FakeUpstream) -> None:
        answer = await (await lab.client()).ask(get(8080))
        assert (answer.status, answer.body) == (status, b"sorry")

    play_behind(answering(b"HTTP/1.1 %d No\r\ncontent-length: 5\r\n\r\nsorry" % status), scenario, tmp_path)
