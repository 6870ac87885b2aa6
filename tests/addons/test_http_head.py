from __future__ import annotations

import pytest

from codex_network_proxy.addons.http_head import (
    HEAD_LIMIT,
    BadHead,
    check_incomplete,
    check_request_head,
    connect_request,
    connect_target,
    find_head_end,
    parse_head,
    plain_target,
)

MISMATCH = "Host header does not match request target"
INVALID_HOST = "invalid Host header"
LINE = "malformed request line"
FIELD = "malformed header field"
LENGTH = "invalid content-length"
CODING = "invalid transfer-encoding"
TARGET = "invalid request target"


def _head(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([line, *fields, b"", b""])


def _get(*fields: bytes) -> bytes:
    return _head(b"GET http://example.com/ HTTP/1.1", b"Host: example.com", *fields)


def _post(*fields: bytes) -> bytes:
    return _head(b"POST http://example.com/ HTTP/1.1", *fields)


def test_a_good_head_keeps_method_target_and_fields_as_sent() -> None:
    raw = _head(b"GET /a?b HTTP/1.1", b"Host: h", b"X-Empty:", b"x-odd:\t\xe9 v \t")
    head = parse_head(raw)
    assert (head.method, head.target, head.version, head.length) == ("GET", "/a?b", "HTTP/1.1", len(raw))
    assert head.fields == (("Host", "h"), ("X-Empty", ""), ("x-odd", "\xe9 v"))
    assert list(head.values("x-odd")) == ["\xe9 v"]
    assert list(head.values("absent")) == []


def test_targets_and_fields_stay_out_of_the_repr() -> None:
    assert "secret" not in repr(parse_head(_head(b"GET /secret HTTP/1.1", b"Host: h", b"Cookie: secret")))


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
    pytest.param(_head(b"GET / HTTP/1.1", b" Host: h"), FIELD, id="a space before the first field"),
    pytest.param(_get(b"A : b"), FIELD, id="a space before the colon"),
    pytest.param(_get(b"A: \x00"), FIELD, id="a NUL"),
    pytest.param(_get(b"A: \x7f"), FIELD, id="a DEL"),
    pytest.param(_get(b"A: \x1b[2J"), FIELD, id="an escape"),
    pytest.param(_get(b"A\xc3\xa9: b"), FIELD, id="a name that is not ASCII"),
    pytest.param(_get(b": b"), FIELD, id="an empty name"),
    pytest.param(_get(b"words"), FIELD, id="a field without a colon"),
    pytest.param(b"\r\n\r\n", LINE, id="an empty request line"),
    pytest.param(_head(b"GET  / HTTP/1.1"), LINE, id="two spaces"),
    pytest.param(_head(b"GET / HTTP/1.1 "), LINE, id="a space after the version"),
    pytest.param(_head(b" GET / HTTP/1.1"), LINE, id="a space before the method"),
    pytest.param(_head(b"GET\t/\tHTTP/1.1"), LINE, id="tabs"),
    pytest.param(_head(b"G@T / HTTP/1.1"), LINE, id="a method that is no token"),
    pytest.param(_head(b"GET /\x01 HTTP/1.1"), LINE, id="a control character in the target"),
    pytest.param(_head(b"GET /"), LINE, id="no version"),
    pytest.param(_head(b"GET / http/1.1"), LINE, id="a version in lower case"),
    pytest.param(_head(b"GET / HTTP/0.9"), "unsupported HTTP version", id="HTTP/0.9"),
    pytest.param(_head(b"GET / HTTP/1.2"), "unsupported HTTP version", id="HTTP/1.2"),
    pytest.param(_head(b"PRI * HTTP/2.0"), "unsupported HTTP version", id="the HTTP/2 preface"),
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
    pytest.param(_head(b"POST http://h/ HTTP/1.0", b"Transfer-Encoding: chunked"), CODING, id="chunks under HTTP/1.0"),
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
        parse_head(_head(b"TRACE http://example.com/ HTTP/1.1"))
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
        pytest.param(_head(b"GET http://h/ HTTP/1.0", b"Connection: keep-alive"), False, id="HTTP/1.0"),
    ],
)
def test_keeps_alive(raw: bytes, expected: bool) -> None:
    assert parse_head(raw).keeps_alive is expected


def _connect(target: bytes, *fields: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return _head(b"CONNECT " + target + b" " + version, *fields)


@pytest.mark.parametrize(
    ("raw", "endpoint"),
    [
        pytest.param(_connect(b"Example.COM.:443", b"Host: example.com:443"), "example.com:443", id="canonical"),
        pytest.param(_connect(b"example.com:443"), "example.com:443", id="without Host"),
        pytest.param(_connect(b"example.com"), "example.com:80", id="without a port"),
        pytest.param(_connect(b"evil.test:443", b"Host: allowed.test:443"), "evil.test:443", id="whatever Host says"),
        pytest.param(_connect(b"h.test:443", b"Host:"), "h.test:443", id="an empty Host"),
        pytest.param(_connect(b"example.com:8443", b"Host: example.com"), "example.com:8443", id="a Host without port"),
        pytest.param(_connect(b"h:1", version=b"HTTP/1.0"), "h:1", id="HTTP/1.0"),
        pytest.param(_connect(b"[::1]:443", b"Host: [0:0::1]:443"), "[::1]:443", id="IPv6 in two spellings"),
        pytest.param(_connect(b"127.1:80", b"Host: 127.0.0.1:80"), "127.0.0.1:80", id="IPv4 in two spellings"),
        pytest.param(_connect("bücher.test:443".encode()), "xn--bcher-kva.test:443", id="UTF-8"),
        pytest.param(_connect(b"h:1", b"Content-Length: 0"), "h:1", id="an empty body"),
    ],
)
def test_connect_target(raw: bytes, endpoint: str) -> None:
    assert str(connect_target(parse_head(raw))) == endpoint
    assert str(connect_request(raw)[1]) == endpoint
    assert connect_request(raw) == connect_request(raw)


AUTHORITY = "missing authority"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(_connect(b"example.com:"), "invalid host", id="an empty port"),
        pytest.param(_connect(b"example.com:https"), "invalid host", id="a port by name"),
        pytest.param(_connect(b"example.com:-1"), "invalid host", id="a negative port"),
        pytest.param(_connect(b"example.com:0"), "invalid host", id="port 0"),
        pytest.param(_connect(b"example.com:65536"), "invalid host", id="port 65536"),
        pytest.param(_connect(b"example.com:0443"), "invalid host", id="a port with a leading zero"),
        pytest.param(_connect(b":443"), "invalid host", id="no host"),
        pytest.param(_connect(b"*"), AUTHORITY, id="a star"),
        pytest.param(_connect(b"https://example.com:443/"), AUTHORITY, id="a URL"),
        pytest.param(_connect(b"https://example.com:443"), AUTHORITY, id="a URL without a path"),
        pytest.param(_connect(b"example.com:443/"), AUTHORITY, id="a path"),
        pytest.param(_connect(b"example.com:443?x:1"), AUTHORITY, id="a query"),
        pytest.param(_connect(b"u:p@example.com:443"), AUTHORITY, id="user-info"),
        pytest.param(_connect(b"evil.test:443.allowed.test"), "invalid host", id="a port inside the name"),
        pytest.param(_connect(b"a:443:443"), "invalid host", id="two ports"),
        pytest.param(_connect(b"evil%00.test:443"), "invalid host", id="an escape"),
        pytest.param(_connect(b"\xff.test:443"), "invalid host", id="not UTF-8"),
        pytest.param(_connect(b"h:1", b"Content-Length: 3"), "CONNECT must not have a body", id="a body"),
        pytest.param(_connect(b"h:1", b"Transfer-Encoding: chunked"), "CONNECT must not have a body", id="chunks"),
    ],
)
def test_connect_targets_are_refused(raw: bytes, message: str) -> None:
    for _ in range(2):  # a refusal is not remembered
        with pytest.raises(BadHead) as refused:
            connect_request(raw)
        assert (refused.value.status, refused.value.message) == (400, message)


def test_a_long_connect_head_is_read_without_being_remembered() -> None:
    head, endpoint = connect_request(_connect(b"h:1", b"A: " + b"b" * 2000))
    assert (head.method, str(endpoint)) == ("CONNECT", "h:1")


def _absolute(target: bytes, host: bytes | None, method: bytes = b"GET") -> bytes:
    return _head(method + b" " + target + b" HTTP/1.1", *([] if host is None else [b"Host: " + host]))


@pytest.mark.parametrize(
    ("raw", "scheme", "endpoint", "path"),
    [
        pytest.param(_absolute(b"http://example.com/", b"example.com"), "http", "example.com:80", "/", id="same"),
        pytest.param(_absolute(b"http://example.com/", b"example.com:80"), "http", "example.com:80", "/", id="port"),
        pytest.param(_absolute(b"http://example.com:80/", b"example.com"), "http", "example.com:80", "/", id="default"),
        pytest.param(
            _absolute(b"http://example.com:8080/", b"example.com:8080"),
            "http",
            "example.com:8080",
            "/",
            id="other port",
        ),
        pytest.param(_absolute(b"https://example.com/", b"example.com"), "https", "example.com:443", "/", id="https"),
        pytest.param(_absolute(b"http://EXAMPLE.com/", b"example.COM"), "http", "example.com:80", "/", id="case"),
        pytest.param(
            _absolute(b"HTTP://example.com/", b"example.com"), "http", "example.com:80", "/", id="scheme case"
        ),
        pytest.param(_absolute(b"http://example.com/", None), "http", "example.com:80", "/", id="no Host"),
        pytest.param(_absolute(b"http://h?q=/x", None), "http", "h:80", "/?q=/x", id="a query without a path"),
        pytest.param(_absolute(b"http://h/a//b?c", None), "http", "h:80", "/a//b?c", id="path and query as sent"),
        pytest.param(_absolute(b"/x?y", b"h:81"), "http", "h:81", "/x?y", id="origin form"),
        pytest.param(_absolute(b"//evil/x", b"h"), "http", "h:80", "//evil/x", id="origin form, two slashes"),
        pytest.param(_absolute(b"*", b"h", b"OPTIONS"), "http", "h:80", "*", id="OPTIONS of the server"),
        pytest.param(_absolute(b"http://[::1]:81/", b"[::1]:81"), "http", "[::1]:81", "/", id="IPv6"),
    ],
)
def test_plain_target(raw: bytes, scheme: str, endpoint: str, path: str) -> None:
    target = plain_target(parse_head(raw))
    assert (target.scheme, str(target.endpoint), target.path) == (scheme, endpoint, path)
    assert check_request_head(raw) == parse_head(raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(_absolute(b"http://example.com:8080/", b"example.com"), MISMATCH, id="Host lacks the port"),
        pytest.param(_absolute(b"http://example.com/", b"example.com:8080"), MISMATCH, id="Host has another port"),
        pytest.param(_absolute(b"http://raw.example.com/", b"api.example.com"), MISMATCH, id="another host"),
        pytest.param(_absolute(b"https://example.com/", b"example.com:80"), MISMATCH, id="the other scheme's port"),
        pytest.param(_absolute(b"http://example.com/", b"a b"), INVALID_HOST, id="a Host that is no host"),
        pytest.param(_absolute(b"http://example.com/", b""), INVALID_HOST, id="an empty Host"),
        pytest.param(_absolute(b"http://example.com/", b"u@example.com"), INVALID_HOST, id="user-info in Host"),
        pytest.param(_absolute(b"/x", None), "missing host", id="origin form without Host"),
        pytest.param(_absolute(b"/x", b""), "missing host", id="origin form with an empty Host"),
        pytest.param(_absolute(b"/x", b"a b"), INVALID_HOST, id="origin form with a bad Host"),
        pytest.param(_absolute(b"http:///x", b"h"), "missing host", id="no authority"),
        pytest.param(_absolute(b"http://u:p@h/", None), "invalid host", id="user-info"),
        pytest.param(_absolute(b"http://h:0/", None), "invalid host", id="port 0"),
        pytest.param(_absolute(b"http://a%00b/", None), "invalid host", id="an escape in the host"),
        pytest.param(_absolute(b"http://a\\b/", None), "invalid host", id="a backslash in the host"),
        pytest.param(_absolute(b"http://\xff/", None), "invalid host", id="not UTF-8"),
        pytest.param(_absolute(b"ftp://h/", b"h"), "unsupported scheme", id="another scheme"),
        pytest.param(_absolute(b"http:/h/", b"h"), TARGET, id="one slash"),
        pytest.param(_absolute(b"h:80", b"h"), TARGET, id="authority form"),
        pytest.param(_absolute(b"x", b"h"), TARGET, id="a relative path"),
        pytest.param(_absolute(b"*", b"h"), TARGET, id="a star that is not OPTIONS"),
        pytest.param(_absolute(b"http://h/#x", b"h"), TARGET, id="a fragment"),
        pytest.param(_absolute(b"/#x", b"h"), TARGET, id="a fragment in origin form"),
    ],
)
def test_plain_targets_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(BadHead) as refused:
        check_request_head(raw)
    assert (refused.value.status, refused.value.message) == (400, message)


def test_a_request_for_a_unix_socket_needs_no_host() -> None:
    raw = _head(b"GET /x HTTP/1.1", b"X-Unix-Socket: /run/x.sock")
    assert check_request_head(raw).target == "/x"


def test_any_connect_head_is_checked_as_such() -> None:
    assert check_request_head(_connect(b"h:1")).method == "CONNECT"
    with pytest.raises(BadHead, match="missing authority"):
        check_request_head(_connect(b"h/"))
