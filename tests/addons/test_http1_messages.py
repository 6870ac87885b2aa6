"""HTTP/1 heads become messages with one meaning, and messages become heads whose body has one end."""

from __future__ import annotations

import pytest
from mitmproxy import http

from codex_network_proxy.addons.http1_messages import (
    Framing,
    WireHead,
    read_request,
    read_response,
    request_head,
    request_size,
    response_head,
    wants_close,
)
from codex_network_proxy.addons.http_head import BadHead

Pairs = list[tuple[bytes, bytes]]


def head(line: str, *fields: str) -> bytes:
    return "\r\n".join([line, *fields, "", ""]).encode("latin-1")


def message(fields: Pairs, method: str = "GET", version: str = "HTTP/1.1", path: str = "/p") -> http.Request:
    made = http.Request.make(method, "http://allowed.test/")
    made.data.http_version, made.data.path, made.data.authority = version.encode(), path.encode(), b""
    made.headers = http.Headers(fields)
    return made


def answer(status: int, fields: Pairs, version: bytes = b"HTTP/1.1", reason: bytes = b"") -> http.Response:
    return http.Response(version, status, reason, http.Headers(fields), None, None, 0.0, None)


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        pytest.param(
            head("GET http://a.test/p?q HTTP/1.1", "Host: a.test"), ("http", "a.test", 80, "/p?q"), id="absolute"
        ),
        pytest.param(head("GET HTTP://A.Test. HTTP/1.1"), ("http", "a.test", 80, "/"), id="absolute, without a path"),
        pytest.param(head("GET http://a.test?q HTTP/1.1"), ("http", "a.test", 80, "/?q"), id="absolute, query only"),
        pytest.param(head("GET https://a.test:8443/ HTTP/1.1"), ("https", "a.test", 8443, "/"), id="absolute https"),
        pytest.param(head("GET /p HTTP/1.1", "Host: a.test:81"), ("http", "a.test", 81, "/p"), id="origin form"),
        pytest.param(head("OPTIONS * HTTP/1.1", "Host: a.test"), ("http", "a.test", 80, "*"), id="the whole server"),
        pytest.param(head("CONNECT a.test:443 HTTP/1.1"), ("", "a.test", 443, ""), id="CONNECT"),
        pytest.param(head("GET http://[::1]:81/ HTTP/1.1"), ("http", "::1", 81, "/"), id="an IPv6 address"),
        pytest.param(
            "GET http://b\u00fccher.test/ HTTP/1.1\r\n\r\n".encode(),
            ("http", "xn--bcher-kva.test", 80, "/"),
            id="a host in UTF-8",
        ),
        pytest.param(
            head("GET http://127.1/ HTTP/1.1"), ("http", "127.0.0.1", 80, "/"), id="an address in another spelling"
        ),
        pytest.param(
            head("GET / HTTP/1.1", "x-unix-socket: /s", "Host: ]["), ("http", "unix-socket", 0, "/"), id="a socket"
        ),
    ],
)
def test_where_a_plain_request_goes(raw: bytes, where: tuple[str, str, int, str]) -> None:
    data = read_request(raw, inner=False).data
    assert (data.scheme.decode(), data.host, data.port, data.path.decode()) == where


@pytest.mark.parametrize(
    ("raw", "path", "authority"),
    [
        pytest.param(head("GET /p HTTP/1.1", "Host: a.test"), b"/p", b"", id="origin form"),
        pytest.param(head("GET /p HTTP/1.0"), b"/p", b"", id="HTTP/1.0 without a Host"),
        pytest.param(head("OPTIONS * HTTP/1.1", "Host: a.test"), b"*", b"", id="the whole server"),
        pytest.param(head("GET https://A.test/p HTTP/1.1", "Host: a.test"), b"/p", b"a.test:443", id="absolute form"),
    ],
)
def test_an_inner_request_keeps_what_must_agree_with_the_tunnel(raw: bytes, path: bytes, authority: bytes) -> None:
    data = read_request(raw, inner=True).data
    assert (data.scheme, data.host, data.path, data.authority) == (b"https", "", path, authority)


@pytest.mark.parametrize(
    ("raw", "status", "text"),
    [
        pytest.param(head("CONNECT a.test:443 HTTP/1.1"), 405, "CONNECT not supported inside MITM", id="CONNECT"),
        pytest.param(head("TRACE / HTTP/1.1", "Host: a"), 405, "TRACE is not supported", id="TRACE"),
        pytest.param(head("trace / HTTP/1.1", "Host: a"), 405, "TRACE is not supported", id="trace in small letters"),
        pytest.param(head("GET /p HTTP/1.1"), 400, "missing host", id="HTTP/1.1 without a Host"),
        pytest.param(head("GET http://a.test/ HTTP/1.1", "Host: a.test"), 400, "host mismatch", id="http, not https"),
        pytest.param(head("GET https://b.test/ HTTP/1.1", "Host: a"), 400, "host mismatch", id="two hosts"),
        pytest.param(head("GET ftp://a/ HTTP/1.1", "Host: a"), 400, "host mismatch", id="another scheme"),
        pytest.param(head("GET * HTTP/1.1", "Host: a"), 400, "host mismatch", id="a star that is no OPTIONS"),
        pytest.param(head("GET /#x HTTP/1.1", "Host: a"), 400, "invalid request target", id="a fragment"),
        pytest.param(head("GET / HTTP/2.0", "Host: a"), 400, "unsupported HTTP version", id="a version of its own"),
    ],
)
def test_inner_heads_that_are_refused(raw: bytes, status: int, text: str) -> None:
    with pytest.raises(BadHead) as caught:
        read_request(raw, inner=True)
    assert (caught.value.status, caught.value.message) == (status, text)


@pytest.mark.parametrize("inner", [True, False])
def test_a_method_is_what_was_sent(inner: bool) -> None:
    """The engine itself takes `connect` for CONNECT."""
    target = "/" if inner else "http://a.test/"
    made = read_request(head(f"connect {target} HTTP/1.1", "Host: a.test"), inner=inner)
    assert made.method == "connect"
    made.method = "GET"
    assert made.data.method == b"GET"


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        pytest.param([], 0, id="nothing announced"),
        pytest.param([(b"content-length", b"5")], 5, id="a length"),
        pytest.param([(b"transfer-encoding", b"chunked")], None, id="chunks"),
    ],
)
def test_the_size_of_a_requests_body(fields: Pairs, size: int | None) -> None:
    assert request_size(message(fields)) == size


@pytest.mark.parametrize(
    ("fields", "version", "closes"),
    [
        pytest.param([], b"HTTP/1.1", False, id="nothing said"),
        pytest.param([(b"connection", b"close")], b"HTTP/1.1", True, id="close"),
        pytest.param([(b"connection", b"x"), (b"Connection", b"y, CLOSE")], b"HTTP/1.1", True, id="in another line"),
        pytest.param([(b"connection", b"keep-alive")], b"HTTP/1.1", False, id="keep-alive"),
        pytest.param([(b"connection", b"enclosed")], b"HTTP/1.1", False, id="a token that holds the word"),
        pytest.param([(b"connection", b"keep-alive")], b"HTTP/1.0", True, id="HTTP/1.0, whatever it says"),
    ],
)
def test_who_wants_to_close(fields: Pairs, version: bytes, closes: bool) -> None:
    assert wants_close(version, http.Headers(fields)) is closes


@pytest.mark.parametrize(
    ("lines", "status", "fields"),
    [
        pytest.param([b"HTTP/1.1 200 OK", b"A: b"], 200, [(b"A", b"b")], id="a good head"),
        pytest.param([b"HTTP/1.0 404", b"a:b"], 404, [(b"a", b"b")], id="without a reason"),
        pytest.param([b"HTTP/1.1 200 ", b"a:  b\t"], 200, [(b"a", b"b")], id="space around a value"),
        pytest.param([b"HTTP/1.1 200 OK", b"a: b", b" c"], 200, [(b"a", b"b c")], id="a folded line"),
        pytest.param([b"HTTP/1.1 099 Odd"], 99, [], id="a status for others to judge"),
        pytest.param([b"HTTP/1.1 200 Gr\xc3\xbcn", b"a: \xff"], 200, [(b"a", b"\xff")], id="bytes above ASCII"),
    ],
)
def test_responses(lines: list[bytes], status: int, fields: Pairs) -> None:
    made = read_response(lines)
    assert (made.status_code, list(made.headers.fields)) == (status, fields)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"220 mail.test ESMTP secret"], id="another protocol"),
        pytest.param([b"HTTP/2.0 200 OK"], id="another version"),
        pytest.param([b"HTTP/1.1 +20 OK"], id="a status with a sign"),
        pytest.param([b"HTTP/1.1 2_0 OK"], id="a status with an underscore"),
        pytest.param([b"HTTP/1.1 1000 OK"], id="a status of four digits"),
        pytest.param([b"HTTP/1.1  200 OK"], id="two spaces"),
        pytest.param([b"HTTP/1.1 200 O\x00K"], id="a control byte in the reason"),
        pytest.param([b"HTTP/1.1 200 OK", b"no colon"], id="a line without a colon"),
        pytest.param([b"HTTP/1.1 200 OK", b"a b: c"], id="a space in a name"),
        pytest.param([b"HTTP/1.1 200 OK", b"a : c"], id="a space before the colon"),
        pytest.param([b"HTTP/1.1 200 OK", b": c"], id="no name"),
        pytest.param([b"HTTP/1.1 200 OK", b" a: c"], id="a fold of nothing"),
        pytest.param([b"HTTP/1.1 200 OK", b"a: b\x00"], id="a NUL"),
        pytest.param([b"HTTP/1.1 200 OK", b"a: b\rc: d"], id="a bare carriage return"),
        pytest.param([b"HTTP/1.1 200 OK", b"a: b", b" \x1b[1m"], id="a control byte in a fold"),
    ],
)
def test_responses_that_are_refused_without_quoting_them(lines: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"^malformed (status line|header field)$"):
        read_response(lines)


CLOSE = "connection: close"
GET, HEAD_METHOD, OLD = message([]), message([], "HEAD"), message([], version="HTTP/1.0")
HTTP2 = b"HTTP/2.0"


@pytest.mark.parametrize(
    ("asked", "given", "ended", "close", "fields", "framing", "ends"),
    [
        pytest.param(GET, answer(200, [(b"content-length", b"5")]), False, False,
                     ["content-length: 5"], Framing.RAW, False, id="a length"),
        pytest.param(GET, answer(200, [(b"content-length", b"5")]), False, True,
                     ["content-length: 5", CLOSE], Framing.RAW, False, id="a length, and the end"),
        pytest.param(GET, answer(200, [(b"connection", b"x"), (b"content-length", b"0")]), True, False,
                     ["content-length: 0"], Framing.RAW, False, id="an origin's own connection"),
        pytest.param(GET, answer(200, [(b"transfer-encoding", b"chunked")]), False, False,
                     ["transfer-encoding: chunked"], Framing.CHUNKED, False, id="chunks"),
        pytest.param(GET, answer(200, []), False, False,
                     ["transfer-encoding: chunked"], Framing.CHUNKED, False, id="no length"),
        pytest.param(GET, answer(200, [], HTTP2), False, False,
                     ["transfer-encoding: chunked"], Framing.CHUNKED, False, id="no length, from HTTP/2"),
        pytest.param(GET, answer(200, [], HTTP2), True, False,
                     ["content-length: 0"], Framing.RAW, False, id="no body, from HTTP/2"),
        pytest.param(GET, answer(200, [(b"transfer-encoding", b"gzip")]), False, False,
                     ["transfer-encoding: gzip", CLOSE], Framing.RAW, True, id="a coding without an end"),
        pytest.param(OLD, answer(200, [(b"transfer-encoding", b"chunked")]), False, True,
                     [CLOSE], Framing.RAW, True, id="chunks for a client of HTTP/1.0"),
        pytest.param(OLD, answer(200, []), False, True, [CLOSE], Framing.RAW, True, id="no length for HTTP/1.0"),
        pytest.param(HEAD_METHOD, answer(200, [(b"transfer-encoding", b"chunked")]), True, False,
                     ["transfer-encoding: chunked"], Framing.NONE, False, id="chunks that a HEAD does not get"),
        pytest.param(GET, answer(304, [(b"transfer-encoding", b"chunked")]), True, False,
                     ["transfer-encoding: chunked"], Framing.NONE, False, id="304 has no body"),
        pytest.param(GET, answer(204, []), True, False, [], Framing.NONE, False, id="204 has no body"),
        pytest.param(GET, answer(100, []), True, False, [], Framing.NONE, False, id="an interim answer"),
        pytest.param(GET, answer(101, [(b"connection", b"Upgrade")]), True, True,
                     ["connection: Upgrade"], Framing.RAW, False, id="a switch"),
        pytest.param(message([], "CONNECT"), answer(200, []), True, True, [], Framing.RAW, False, id="a tunnel"),
        pytest.param(message([], "CONNECT"), answer(403, [(b"content-length", b"2")]), False, False,
                     ["content-length: 2"], Framing.RAW, False, id="a refused tunnel"),
    ],
)  # fmt: skip
def test_answers_on_the_wire(
    asked: http.Request, given: http.Response, ended: bool, close: bool, fields: list[str], framing: Framing, ends: bool
) -> None:
    made = response_head(asked, given, end_stream=ended, close=close)
    line, *written = made.data.decode().split("\r\n")[:-2]
    assert line.startswith(f"HTTP/1.1 {given.status_code} ")
    assert (written, made.framing, made.ends) == (fields, framing, ends)


@pytest.mark.parametrize(
    ("asked", "ended", "expected"),
    [
        pytest.param(
            message([(b"Host", b"a")]), True, WireHead(b"GET /p HTTP/1.1\r\nHost: a\r\n\r\n", Framing.NONE), id="a GET"
        ),
        pytest.param(
            message([(b"content-length", b"5")], "POST"),
            False,
            WireHead(b"POST /p HTTP/1.1\r\ncontent-length: 5\r\n\r\n", Framing.RAW),
            id="a length",
        ),
        pytest.param(
            message([(b"transfer-encoding", b"chunked")], "POST"),
            False,
            WireHead(b"POST /p HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", Framing.CHUNKED),
            id="chunks",
        ),
        pytest.param(
            message([], "POST"),
            False,
            WireHead(b"POST /p HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", Framing.CHUNKED),
            id="a body that nobody announced",
        ),
        pytest.param(
            message([], "POST"),
            True,
            WireHead(b"POST /p HTTP/1.1\r\ncontent-length: 0\r\n\r\n", Framing.NONE),
            id="a POST without a body",
        ),
        pytest.param(
            message([], version="HTTP/1.0"), True, WireHead(b"GET /p HTTP/1.0\r\n\r\n", Framing.NONE), id="HTTP/1.0"
        ),
        pytest.param(
            message([(b"te", b"trailers"), (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")], version="HTTP/2.0"),
            True,
            WireHead(b"GET /p HTTP/1.1\r\nhost: \r\nx: y\r\ncookie: a=1; b=2\r\n\r\n", Framing.NONE),
            id="HTTP/2's own ways",
        ),
    ],
)
def test_requests_on_the_wire(asked: http.Request, ended: bool, expected: WireHead) -> None:
    assert request_head(asked, end_stream=ended) == expected


def test_http2_names_its_host_apart() -> None:
    asked = message([(b"x", b"y")], version="HTTP/2.0")
    asked.data.authority = b"a.test:8443"
    assert request_head(asked, end_stream=True).data.startswith(b"GET /p HTTP/1.1\r\nhost: a.test:8443\r\n")


@pytest.mark.parametrize(
    ("framing", "wire", "end"),
    [(Framing.RAW, b"abc", b""), (Framing.CHUNKED, b"3\r\nabc\r\n", b"0\r\n\r\n"), (Framing.NONE, b"", b"")],
)
def test_framing(framing: Framing, wire: bytes, end: bytes) -> None:
    assert (framing.wire(b"abc"), framing.end) == (wire, end)


def test_an_empty_piece_is_not_the_end_of_the_chunks() -> None:
    assert Framing.CHUNKED.wire(b"") == b""
