from __future__ import annotations

import pytest

from codex_network_proxy.addons.http_head import (
    HEAD_LIMIT,
    BadHead,
    check_incomplete,
    find_head_end,
    parse_head,
)

from .head_words import INVALID_HOST, head_of

LINE = "malformed request line"
FIELD = "malformed header field"
LENGTH = "invalid content-length"
CODING = "invalid transfer-encoding"


def _get(*fields: bytes) -> bytes:
    return head_of(b"GET http://example.com/ HTTP/1.1", b"Host: example.com", *fields)


def _post(*fields: bytes) -> bytes:
    return head_of(b"POST http://example.com/ HTTP/1.1", *fields)


def test_a_good_head_keeps_method_target_and_fields_as_sent() -> None:
    raw = head_of(b"GET /a?b HTTP/1.1", b"Host: h", b"X-Empty:", b"x-odd:\t\xe9 v \t")
    head = parse_head(raw)
    assert (head.method, head.target, head.version, head.length) == ("GET", "/a?b", "HTTP/1.1", len(raw))
    assert head.fields == (("Host", "h"), ("X-Empty", ""), ("x-odd", "\xe9 v"))
    assert list(head.values("x-odd")) == ["\xe9 v"]
    assert list(head.values("absent")) == []


def test_targets_and_fields_stay_out_of_the_repr() -> None:
    assert "secret" not in repr(parse_head(head_of(b"GET /secret HTTP/1.1", b"Host: h", b"Cookie: secret")))


@pytest.mark.parametrize(
    ("raw", "start", "end"),
    [
        pytest.param(b"", 0, None, id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\n\r", 0, None, id="one byte is missing"),
        pytest.param(b"a\r\n\r\nrest", 0, 5, id="with a rest"),
        pytest.param(b"a\r\n\r\n", 4, 5, id="the end is split over two reads"),
        pytest.param(b"a\n\n", 0, None, id="bare line feeds end nothing"),
    ],
)
def test_find_head_end(raw: bytes, start: int, end: int | None) -> None:
    assert find_head_end(raw, start) == end
    assert find_head_end(bytearray(raw), start) == end


REFUSED = [
    pytest.param(b"GET / HTTP/1.1\nHost: h\r\n\r\n", LINE, id="a bare line feed after the request line"),
    pytest.param(_get(b"A: b\nC: d"), FIELD, id="a bare line feed between fields"),
    pytest.param(_get(b"A: b\rC: d"), FIELD, id="a bare carriage return"),
    pytest.param(_get(b"A: b", b" c"), FIELD, id="a folded field"),
    pytest.param(head_of(b"GET / HTTP/1.1", b" Host: h"), FIELD, id="a space before the first field"),
    pytest.param(_get(b"A : b"), FIELD, id="a space before the colon"),
    pytest.param(_get(b"A: \x00"), FIELD, id="a NUL"),
    pytest.param(_get(b"A: \x7f"), FIELD, id="a DEL"),
    pytest.param(_get(b"A: \x1b[2J"), FIELD, id="an escape"),
    pytest.param(_get(b"A\xc3\xa9: b"), FIELD, id="a name that is not ASCII"),
    pytest.param(_get(b": b"), FIELD, id="an empty name"),
    pytest.param(_get(b"words"), FIELD, id="a field without a colon"),
    pytest.param(b"\r\n\r\n", LINE, id="an empty request line"),
    pytest.param(head_of(b"GET  / HTTP/1.1"), LINE, id="two spaces"),
    pytest.param(head_of(b"GET / HTTP/1.1 "), LINE, id="a space after the version"),
    pytest.param(head_of(b" GET / HTTP/1.1"), LINE, id="a space before the method"),
    pytest.param(head_of(b"GET\t/\tHTTP/1.1"), LINE, id="tabs"),
    pytest.param(head_of(b"G@T / HTTP/1.1"), LINE, id="a method that is no token"),
    pytest.param(head_of(b"GET /\x01 HTTP/1.1"), LINE, id="a control character in the target"),
    pytest.param(head_of(b"GET /"), LINE, id="no version"),
    pytest.param(head_of(b"GET / http/1.1"), LINE, id="a version in lower case"),
    pytest.param(head_of(b"GET / HTTP/0.9"), "unsupported HTTP version", id="HTTP/0.9"),
    pytest.param(head_of(b"GET / HTTP/1.2"), "unsupported HTTP version", id="HTTP/1.2"),
    pytest.param(head_of(b"PRI * HTTP/2.0"), "unsupported HTTP version", id="the HTTP/2 preface"),
    pytest.param(_post(b"Content-Length: 5", b"Content-Length: 6"), LENGTH, id="two lengths"),
    pytest.param(_post(b"Content-Length: 5", b"content-length: 5"), LENGTH, id="two lengths that agree"),
    pytest.param(_post(b"Content-Length: 5, 5"), LENGTH, id="a list of lengths"),
    pytest.param(_post(b"Content-Length: +5"), LENGTH, id="a length with a sign"),
    pytest.param(_post(b"Content-Length: -5"), LENGTH, id="a negative length"),
    pytest.param(_post(b"Content-Length: 0x5"), LENGTH, id="a hexadecimal length"),
    pytest.param(_post(b"Content-Length: 5 "), LENGTH, id="a length with a space behind it"),
    pytest.param(_post(b"Content-Length:"), LENGTH, id="an empty length"),
    pytest.param(_post(b"Content-Length: \xb2"), LENGTH, id="a digit of another script"),
    pytest.param(_post(b"Content-Length: " + b"9" * 19), LENGTH, id="a length of nineteen digits"),
    pytest.param(
        _post(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        "both content-length and transfer-encoding",
        id="a length and a coding",
    ),
    pytest.param(_post(b"Transfer-Encoding: identity"), CODING, id="identity"),
    pytest.param(_post(b"Transfer-Encoding: chunked, gzip"), CODING, id="chunked is not the last coding"),
    pytest.param(_post(b"Transfer-Encoding: chunked, chunked"), CODING, id="chunked twice"),
    pytest.param(_post(b"Transfer-Encoding: foo, chunked"), CODING, id="an unknown coding before chunked"),
    pytest.param(_post(b"Transfer-Encoding: chunked;q=1"), CODING, id="a coding with a parameter"),
    pytest.param(_post(b"Transfer-Encoding: chunked "), CODING, id="a coding with a space behind it"),
    pytest.param(_post(b"Transfer-Encoding: ,chunked"), CODING, id="an empty coding before chunked"),
    pytest.param(
        _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), CODING, id="two fields of codings"
    ),
    pytest.param(
        head_of(b"POST http://h/ HTTP/1.0", b"Transfer-Encoding: chunked"), CODING, id="chunks under HTTP/1.0"
    ),
    pytest.param(_get(b"host: example.com"), INVALID_HOST, id="two Host fields that agree"),
    pytest.param(_get(b"Host: evil.com"), INVALID_HOST, id="two Host fields"),
]


@pytest.mark.parametrize(("raw", "message"), REFUSED)
def test_malformed_heads_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(BadHead) as refused:
        parse_head(raw)
    assert (refused.value.status, refused.value.message) == (400, message)


def test_trace_is_not_supported() -> None:
    with pytest.raises(BadHead) as refused:
        parse_head(head_of(b"TRACE http://example.com/ HTTP/1.1"))
    assert (refused.value.status, refused.value.message) == (405, "TRACE is not supported")


@pytest.mark.parametrize("parse", [parse_head, check_incomplete])
def test_a_head_over_the_limit_is_too_large(parse: type) -> None:
    with pytest.raises(BadHead) as refused:
        parse(_get(b"A: " + b"b" * HEAD_LIMIT))
    assert (refused.value.status, refused.value.message) == (431, "request head too large")


@pytest.mark.parametrize(
    ("raw", "start", "message"),
    [
        pytest.param(b"GET / HTTP/1.1\nHost", 0, "malformed request head", id="a bare line feed"),
        pytest.param(b"GET\n", 3, "malformed request head", id="a bare line feed in the second read"),
        pytest.param(b"\n", 0, "this port speaks HTTP/1.1 only", id="a line feed first"),
        pytest.param(b"\x05\x01\x00", 0, "this port speaks HTTP/1.1 only", id="a SOCKS5 greeting"),
        pytest.param(b"\x04\x01\x00", 0, "this port speaks HTTP/1.1 only", id="a SOCKS4 request"),
        pytest.param(b"\x16\x03\x01", 0, "this port speaks HTTP/1.1 only", id="a TLS greeting"),
        pytest.param(b"\xff", 0, "this port speaks HTTP/1.1 only", id="noise"),
    ],
)
def test_a_head_that_cannot_become_good_is_refused_early(raw: bytes, start: int, message: str) -> None:
    with pytest.raises(BadHead) as refused:
        check_incomplete(raw, start)
    assert (refused.value.status, refused.value.message) == (400, message)


@pytest.mark.parametrize("raw", [b"", b"G", b"\r", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n"])
def test_a_head_on_its_way_is_waited_for(raw: bytes) -> None:
    check_incomplete(raw)
    check_incomplete(raw, max(0, len(raw) - 1))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(_get(), False, id="nothing announced"),
        pytest.param(_get(b"Content-Length: 0"), False, id="a length of zero"),
        pytest.param(_get(b"Content-Length: 7"), True, id="a length"),
        pytest.param(_get(b"Transfer-Encoding: Chunked"), True, id="chunks"),
        pytest.param(_get(b"Transfer-Encoding: gzip, chunked"), True, id="chunks of gzip"),
    ],
)
def test_has_body(raw: bytes, expected: bool) -> None:
    assert parse_head(raw).has_body is expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(_get(), True, id="HTTP/1.1"),
        pytest.param(_get(b"Connection: keep-alive"), True, id="HTTP/1.1 says so"),
        pytest.param(_get(b"Connection: x, Close"), False, id="close among others"),
        pytest.param(_get(b"Connection: x", b"Connection: close"), False, id="close in a second field"),
        pytest.param(_get(b"Proxy-Connection: close"), False, id="the old field"),
        pytest.param(head_of(b"GET http://h/ HTTP/1.0", b"Connection: keep-alive"), False, id="HTTP/1.0"),
    ],
)
def test_keeps_alive(raw: bytes, expected: bool) -> None:
    assert parse_head(raw).keeps_alive is expected
