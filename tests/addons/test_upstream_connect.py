"""A CONNECT to an upstream proxy: what is sent, and which answers open a tunnel (security case L07)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_network_proxy.addons.upstream_connect import (
    ANSWER_LIMIT,
    CLOSED,
    MALFORMED,
    NEEDS_CREDENTIALS,
    TOO_LARGE,
    WRONG_CREDENTIALS,
    ConnectExchange,
    UpstreamFailed,
)
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.socks.dialler import DialFailure

TARGET = parse_endpoint("example.com:443")
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
CANARY = "canary"


def test_the_request_names_the_target_and_nothing_else() -> None:
    request = ConnectExchange(TARGET, None).request
    assert request == b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"


def test_ipv6_stands_in_brackets() -> None:
    request = ConnectExchange(parse_endpoint("[2001:DB8::1]:8443"), None).request
    assert request == b"CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\n\r\n"


def test_credentials_are_sent_and_not_shown() -> None:
    exchange = ConnectExchange(TARGET, f"Basic {CANARY}")
    assert b"\r\nProxy-Authorization: Basic canary\r\n" in exchange.request
    assert CANARY not in repr(exchange)


# answer, what comes behind its head
OPENED = [
    pytest.param(OK, b"", id="the usual answer"),
    pytest.param(b"HTTP/1.0 200 Connection established\r\n\r\n", b"", id="HTTP/1.0"),
    pytest.param(b"HTTP/1.1 200 OK\r\nVia: x\r\nContent-Length: 5\r\n\r\nhello", b"hello", id="a length means nothing"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", b"5\r\n", id="neither does a coding"),
    pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi", b"hi", id="nor does close"),
    pytest.param(b"HTTP/1.1 204 No Content\r\n\r\nhi", b"hi", id="any 2xx opens"),
    pytest.param(b"HTTP/1.1 200\r\n\r\n", b"", id="no reason phrase"),
    pytest.param(b"HTTP/1.1 200 OK\n\nhi", b"hi", id="bare line feeds"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"220 mail", b"220 mail", id="an interim answer before it"),
    pytest.param(OK + b"\r\n\r\nHTTP/1.1 403 No\r\n\r\n", b"\r\n\r\nHTTP/1.1 403 No\r\n\r\n", id="bytes of the target"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * (ANSWER_LIMIT - 40) + b"\r\n\r\n", b"", id="nearly too large"),
]


@pytest.mark.parametrize(("answer", "early"), OPENED)
@pytest.mark.parametrize("step", [1, ANSWER_LIMIT], ids=["byte by byte", "at once"])
def test_a_tunnel_opens(answer: bytes, early: bytes, step: int) -> None:
    exchange, found = ConnectExchange(TARGET, None), b""
    pieces = [answer[at : at + step] for at in range(0, len(answer), step)]
    opened = None
    while opened is None:
        opened = exchange.receive(pieces.pop(0))
    found = opened + b"".join(pieces)
    assert found == early


REFUSED, OTHER = DialFailure.REFUSED, DialFailure.OTHER
FAR, LATE = DialFailure.HOST_UNREACHABLE, DialFailure.TIMED_OUT
# answer, what the client is told, kind
FAILED = [
    pytest.param(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n", NEEDS_CREDENTIALS, REFUSED, id="407"),
    pytest.param(b"HTTP/1.1 403 No\r\n\r\n", "the upstream proxy answered 403", REFUSED, id="403"),
    pytest.param(b"HTTP/1.1 404 canary\r\n\r\ncanary", "the upstream proxy answered 404", REFUSED, id="404"),
    pytest.param(b"HTTP/1.1 500 No\r\n\r\n", "the upstream proxy answered 500", REFUSED, id="500"),
    pytest.param(b"HTTP/1.1 502 No\r\n\r\n", "the upstream proxy answered 502", FAR, id="502"),
    pytest.param(b"HTTP/1.1 503 No\r\n\r\n", "the upstream proxy answered 503", FAR, id="503"),
    pytest.param(b"HTTP/1.1 504 No\r\n\r\n", "the upstream proxy answered 504", LATE, id="504"),
    pytest.param(
        b"HTTP/1.1 302 No\r\nLocation: http://x\r\n\r\n", "the upstream proxy answered 302", REFUSED, id="302"
    ),
    pytest.param(b"", CLOSED, REFUSED, id="nothing"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: ", CLOSED, REFUSED, id="half a head"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", CLOSED, REFUSED, id="an interim answer alone"),
    pytest.param(b"HTTP/1.1 101 canary\r\nUpgrade: x\r\n\r\n", MALFORMED, OTHER, id="101, which nobody asked for"),
    pytest.param(b"220 canary ready\r\n\r\n", MALFORMED, OTHER, id="another protocol"),
    pytest.param(b"\x16\x03\x03\x00\x31", MALFORMED, OTHER, id="TLS"),
    pytest.param(b"\x05\x00\r\n\r\n", MALFORMED, OTHER, id="SOCKS"),
    pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", MALFORMED, OTHER, id="a status of four digits"),
    pytest.param(b"HTTP/1.1 099 OK\r\n\r\n", MALFORMED, OTHER, id="a status below 100"),
    pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", MALFORMED, OTHER, id="a status in words"),
    pytest.param(b"HTTP/1.1 200 OK\r\ncanary\r\n\r\n", MALFORMED, OTHER, id="a field without a colon"),
    pytest.param(b"HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n", MALFORMED, OTHER, id="a blank in a field's name"),
    pytest.param(b"HTTP/1.1 200 OK\r\nx: \x001\r\n\r\n", MALFORMED, OTHER, id="a NUL"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * ANSWER_LIMIT, TOO_LARGE, OTHER, id="an endless field"),
    pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * ANSWER_LIMIT, TOO_LARGE, OTHER, id="endless fields"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 999, TOO_LARGE, OTHER, id="endless interim answers"),
]


def feed(exchange: ConnectExchange, answer: bytes, step: int) -> None:
    """As much at a time as there is room for, and then the end of the stream."""
    while True:
        size = min(step, exchange.room)
        assert exchange.receive(answer[:size]) is None
        answer = answer[size:]


@pytest.mark.parametrize(("answer", "text", "kind"), FAILED)
@pytest.mark.parametrize("step", [1, ANSWER_LIMIT], ids=["byte by byte", "at once"])
def test_a_tunnel_does_not_open(answer: bytes, text: str, kind: DialFailure, step: int) -> None:
    with pytest.raises(UpstreamFailed) as failed:
        feed(ConnectExchange(TARGET, None), answer, step)
    assert (str(failed.value), failed.value.failure) == (text, kind)
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__ or failed.value.__context__ is None, "a trace would quote what came"


PIECES = [b"HTTP/1.1 ", b"200", b"407", b" OK", b"\r\n", b"\n", b"a: b", b":", b" ", b"\x00", b"\xff", b"100 C\r\n\r\n"]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=5), max_size=20), st.integers(1, 50))
def test_no_answer_is_too_odd(pieces: list[bytes], step: int) -> None:
    """It opens the tunnel, or it fails with words of our own."""
    exchange, answer = ConnectExchange(TARGET, None), b"".join(pieces)
    told = None
    try:
        for at in range(0, len(answer), step):
            if exchange.receive(answer[at : at + step]) is not None:
                return
        exchange.receive(b"")
    except UpstreamFailed as failed:
        told = str(failed)
    assert told is not None
    assert told.startswith("the upstream proxy ")


def test_credentials_that_are_refused_are_named_as_such() -> None:
    exchange = ConnectExchange(TARGET, f"Basic {CANARY}")
    with pytest.raises(UpstreamFailed, match=f"^{WRONG_CREDENTIALS}$"):
        exchange.receive(b"HTTP/1.1 407 No\r\n\r\n")
