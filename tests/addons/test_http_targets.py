"""The targets of HTTP/1 requests: which host and port a head means, and which it cannot mean."""

from __future__ import annotations

import pytest

from codex_network_proxy.addons.http_head import (
    BadHead,
    check_request_head,
    connect_request,
    connect_target,
    parse_head,
    plain_target,
)

from .head_words import INVALID_HOST, MISMATCH, TARGET, head_of


def _connect(target: bytes, *fields: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return head_of(b"CONNECT " + target + b" " + version, *fields)


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
    return head_of(method + b" " + target + b" HTTP/1.1", *([] if host is None else [b"Host: " + host]))


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
    raw = head_of(b"GET /x HTTP/1.1", b"X-Unix-Socket: /run/x.sock")
    assert check_request_head(raw).target == "/x"


def test_any_connect_head_is_checked_as_such() -> None:
    assert check_request_head(_connect(b"h:1")).method == "CONNECT"
    with pytest.raises(BadHead, match="missing authority"):
        check_request_head(_connect(b"h/"))
