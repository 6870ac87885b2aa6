"""Fields that end at the proxy, both ways, before any rule is asked (spec B4.8, B6.5)."""

from __future__ import annotations

import pytest
from mitmproxy import http

from codex_network_proxy.addons.headers import IDENTITY, Headers

from .flow_kit import Pairs, bench, lines

KEPT = ("accept", "*/*")


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        pytest.param([("Keep-Alive", "5"), KEPT], [KEPT], id="keep-alive"),
        pytest.param([("Proxy-Connection", "x"), ("proxy-authorization", "Basic x"), KEPT], [KEPT], id="the proxy's"),
        pytest.param([("TE", "trailers"), ("Trailer", "x-sum"), KEPT], [KEPT], id="trailers"),
        pytest.param([("Connection", "X-Mine"), ("x-MINE", "1"), KEPT], [KEPT], id="what Connection names"),
        pytest.param(
            [("Connection", "close"), ("connection", "a , B"), ("a", "1"), ("b", "2"), KEPT], [KEPT],
            id="what a second Connection names",
        ),
        pytest.param([("a", "1"), ("A", "2"), ("Connection", "a"), KEPT], [KEPT], id="every line of a named field"),
        pytest.param([("Upgrade", "h2c"), ("Connection", "Upgrade, HTTP2-Settings"), ("HTTP2-Settings", "x"), KEPT],
                     [KEPT], id="h2c"),
        pytest.param([("Upgrade", "foo"), ("Connection", "upgrade"), KEPT], [KEPT], id="another upgrade"),
        pytest.param(
            [("Connection", "host, content-length, transfer-encoding"), ("Host", "a"), ("Content-Length", "5")],
            [("Host", "a"), ("Content-Length", "5")], id="framing may not be named",
        ),
        pytest.param([("X-Unix-Socket", "/s"), KEPT], [KEPT], id="the socket"),
        pytest.param([("Via", "1.1 x"), ("X-Forwarded-For", "1"), KEPT], [("Via", "1.1 x"), ("X-Forwarded-For", "1"),
                     KEPT], id="a plain request's identity stays"),
    ],
)  # fmt: skip
def test_plain_requests(fields: Pairs, left: Pairs) -> None:
    with bench() as here:
        flow = here.flow(fields=fields)
        Headers().requestheaders(flow)
        assert lines(flow) == left


@pytest.mark.parametrize("name", sorted(IDENTITY))
def test_inner_requests_do_not_say_who_the_client_is(name: str) -> None:
    with bench() as here:
        here.enter()
        flow = here.flow("https://hooked.test/", [(name.title(), "1"), KEPT, (name, "2")])
        Headers().requestheaders(flow)
        assert lines(flow) == [KEPT]


@pytest.mark.parametrize(
    ("version", "value", "left"),
    [("HTTP/2.0", "trailers", [("te", "trailers")]), ("HTTP/2.0", "Trailers", [("te", "trailers")]),
     ("HTTP/1.1", "trailers", []), ("HTTP/2.0", "gzip", [])],
)  # fmt: skip
def test_te_belongs_to_http2_alone(version: str, value: str, left: Pairs) -> None:
    with bench() as here:
        here.enter()
        flow = here.flow("https://hooked.test/", [("te", value)], version=version)
        Headers().requestheaders(flow)
        assert lines(flow) == left


WEBSOCKET = [
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
]


def test_the_upgrade_to_a_websocket_passes_and_nothing_else_with_it() -> None:
    with bench() as here:
        asked = [("Upgrade", "WebSocket"), ("Connection", "keep-alive, Upgrade, x-mine"), ("x-mine", "1")]
        flow = here.flow(fields=[*asked, *WEBSOCKET])
        Headers().requestheaders(flow)
        assert lines(flow) == [*WEBSOCKET, ("connection", "Upgrade"), ("upgrade", "websocket")]


def test_nothing_happens_without_a_session_or_after_an_answer() -> None:
    with bench() as here:
        answered = here.flow(fields=[("te", "x")])
        answered.response = http.Response.make(403)
        Headers().requestheaders(answered)
        assert lines(answered) == [("te", "x")]
        flow = here.flow(fields=[("te", "x")])
    Headers().requestheaders(flow)
    Headers().responseheaders(flow)
    assert lines(flow) == [("te", "x")]


def answer(*fields: tuple[bytes, bytes], status: int = 200) -> http.Response:
    made = http.Response.make(status)
    made.headers = http.Headers(fields)
    return made


@pytest.mark.parametrize("inner", [True, False], ids=["inner", "plain"])
def test_answers(inner: bool) -> None:
    with bench() as here:
        if inner:
            here.enter()
        flow = here.flow("https://hooked.test/" if inner else "http://allowed.test/")
        flow.response = answer(
            (b"Connection", b"X-Hop"), (b"x-hop", b"1"), (b"Keep-Alive", b"5"), (b"Proxy-Authenticate", b"Basic"),
            (b"Trailer", b"x-sum"), (b"Upgrade", b"foo"), (b"Alt-Svc", b"h3=1"), (b"x-kept", b"yes"),
        )  # fmt: skip
        Headers().responseheaders(flow)
        left = [(b"x-kept", b"yes")] if inner else [(b"Alt-Svc", b"h3=1"), (b"x-kept", b"yes")]
        assert list(flow.response.headers.fields) == left


def test_the_answer_that_switches_keeps_its_switch() -> None:
    with bench() as here:
        flow = here.flow()
        flow.response = answer((b"Connection", b"x, upgrade"), (b"x", b"1"), (b"Upgrade", b"WebSocket"), status=101)
        Headers().responseheaders(flow)
        assert list(flow.response.headers.fields) == [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
