"""HTTP/2 request heads: one reading, or a refusal for this stream alone (class F06)."""

from __future__ import annotations

import pytest

from codex_network_proxy.addons.http2_messages import are_good_trailers, read_request
from codex_network_proxy.addons.http_head import BadHead

Pairs = list[tuple[bytes, bytes]]
GOOD: Pairs = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a.test"), (b":path", b"/p?q")]
MALFORMED, MISMATCH, TARGET = "malformed request head", "host mismatch", "invalid request target"


def changed(name: bytes, value: bytes | None) -> Pairs:
    kept = [(key, old if key != name else value) for key, old in GOOD]
    return [(key, new) for key, new in kept if new is not None]


def test_a_good_head() -> None:
    made = read_request([*GOOD, (b"x-a", b"b c"), (b"te", b"trailers")], ended=False)
    data = made.data
    assert (data.method, data.scheme, data.authority, data.path) == (b"POST", b"https", b"a.test", b"/p?q")
    assert (data.http_version, data.host, data.port) == (b"HTTP/2.0", "", 0)
    assert list(made.headers.fields) == [(b"x-a", b"b c"), (b"te", b"trailers")]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([*changed(b":authority", None), (b"host", b"a.test")], id="a host instead of an authority"),
        pytest.param([*GOOD, (b"host", b"a.test")], id="a host and an authority"),
        pytest.param([*changed(b":method", b"OPTIONS")[:3], (b":path", b"*")], id="the whole server"),
        pytest.param([*GOOD, (b"content-length", b"0")], id="a length of nothing"),
        pytest.param([*GOOD, (b"cookie", b"a=1"), (b"cookie", b"b=2")], id="cookies in pieces"),
        pytest.param([*GOOD, (b"x", b"")], id="an empty value"),
        pytest.param(changed(b":method", b"connect"), id="a method that only looks like CONNECT"),
        pytest.param(changed(b":path", b"/a%2fb;c=d\xc3\xbc"), id="a path that is for the hooks to judge"),
    ],
)
def test_heads_that_pass(fields: Pairs) -> None:
    read_request(fields, ended=True)


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        pytest.param(changed(b":method", b"CONNECT"), 405, "CONNECT not supported inside MITM", id="CONNECT"),
        pytest.param(
            [(b":method", b"CONNECT"), (b":authority", b"evil.test:443")],
            405, "CONNECT not supported inside MITM", id="CONNECT as it should look",
        ),
        pytest.param(
            [*changed(b":method", b"CONNECT"), (b":protocol", b"websocket")],
            405, "CONNECT not supported inside MITM", id="extended CONNECT",
        ),
        pytest.param(changed(b":method", b"TRACE"), 405, "TRACE is not supported", id="TRACE"),
        pytest.param(changed(b":method", b"G T"), 400, MALFORMED, id="a space in the method"),
        pytest.param(changed(b":method", b""), 400, MALFORMED, id="an empty method"),
        pytest.param(changed(b":method", None), 400, MALFORMED, id="no method"),
        pytest.param(changed(b":scheme", b"http"), 400, MISMATCH, id="another scheme"),
        pytest.param(changed(b":scheme", None), 400, MISMATCH, id="no scheme"),
        pytest.param(changed(b":path", None), 400, TARGET, id="no path"),
        pytest.param(changed(b":path", b""), 400, TARGET, id="an empty path"),
        pytest.param(changed(b":path", b"*"), 400, TARGET, id="a star that is no OPTIONS"),
        pytest.param(changed(b":path", b"p"), 400, TARGET, id="a path without a slash"),
        pytest.param(changed(b":path", b"http://evil.test/"), 400, TARGET, id="a path in absolute form"),
        pytest.param(changed(b":path", b"/a HTTP/1.1"), 400, TARGET, id="a space in the path"),
        pytest.param(changed(b":path", b"/a\r\nx: y"), 400, TARGET, id="a line break in the path"),
        pytest.param(changed(b":path", b"/a#b"), 400, TARGET, id="a fragment"),
        pytest.param(changed(b":authority", b""), 400, MISMATCH, id="an empty authority"),
        pytest.param(changed(b":authority", b"a b"), 400, MISMATCH, id="a space in the authority"),
        pytest.param(changed(b":authority", "b\u00fccher.test".encode()), 400, MISMATCH, id="bytes above ASCII in it"),
        pytest.param(changed(b":authority", None), 400, "missing host", id="neither authority nor host"),
        pytest.param([*GOOD, (b"host", b"a.test"), (b"host", b"b.test")], 400, MISMATCH, id="two hosts"),
        pytest.param([*GOOD, (b":path", b"/x")], 400, MALFORMED, id="a path given twice"),
        pytest.param([*GOOD, (b":x", b"y")], 400, MALFORMED, id="a pseudo-header of its own"),
        pytest.param([*GOOD, (b":status", b"200")], 400, MALFORMED, id="a response's pseudo-header"),
        pytest.param([*GOOD[:3], (b"x", b"y"), GOOD[3]], 400, MALFORMED, id="a pseudo-header behind a field"),
        pytest.param([*GOOD, (b"X-A", b"b")], 400, MALFORMED, id="a capital in a name"),
        pytest.param([*GOOD, (b"", b"b")], 400, MALFORMED, id="an empty name"),
        pytest.param([*GOOD, (b"x a", b"b")], 400, MALFORMED, id="a space in a name"),
        pytest.param([*GOOD, (b"x:a", b"b")], 400, MALFORMED, id="a colon in a name"),
        pytest.param([*GOOD, (b"x", b"a\r\nb: c")], 400, MALFORMED, id="a line break in a value"),
        pytest.param([*GOOD, (b"x", b"a\nb")], 400, MALFORMED, id="a line feed in a value"),
        pytest.param([*GOOD, (b"x", b"a\x00b")], 400, MALFORMED, id="a NUL in a value"),
        pytest.param([*GOOD, (b"x", b"a\x1bb")], 400, MALFORMED, id="a control byte in a value"),
        pytest.param([*GOOD, (b"x", b" a")], 400, MALFORMED, id="a space before a value"),
        pytest.param([*GOOD, (b"x", b"a ")], 400, MALFORMED, id="a space behind a value"),
        pytest.param([*GOOD, (b"connection", b"x")], 400, MALFORMED, id="connection"),
        pytest.param([*GOOD, (b"transfer-encoding", b"chunked")], 400, MALFORMED, id="transfer-encoding"),
        pytest.param([*GOOD, (b"upgrade", b"websocket")], 400, MALFORMED, id="upgrade"),
        pytest.param([*GOOD, (b"keep-alive", b"1")], 400, MALFORMED, id="keep-alive"),
        pytest.param([*GOOD, (b"te", b"gzip")], 400, MALFORMED, id="another te"),
        pytest.param([*GOOD, (b"content-length", b"+5")], 400, "invalid content-length", id="a length with a sign"),
        pytest.param([*GOOD, (b"content-length", b"5, 5")], 400, "invalid content-length", id="a list of lengths"),
        pytest.param(
            [*GOOD, (b"content-length", b"5"), (b"content-length", b"5")],
            400, "invalid content-length", id="two lengths",
        ),
        pytest.param([*GOOD, (b"content-length", b"5")], 400, "invalid content-length", id="a length without a body"),
    ],
)  # fmt: skip
def test_heads_that_are_refused(fields: Pairs, status: int, text: str) -> None:
    with pytest.raises(BadHead) as caught:
        read_request(fields, ended=True)
    assert (caught.value.status, caught.value.message) == (status, text)


def test_a_length_with_a_body_passes() -> None:
    read_request([*GOOD, (b"content-length", b"5")], ended=False)


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        pytest.param([(b"x-sum", b"1")], True, id="a field"),
        pytest.param([], True, id="none"),
        pytest.param([(b":path", b"/")], False, id="a pseudo-header"),
        pytest.param([(b"x", b"a\nb")], False, id="a line feed"),
        pytest.param([(b"transfer-encoding", b"chunked")], False, id="a field of the connection"),
    ],
)
def test_trailers(fields: Pairs, good: bool) -> None:
    assert are_good_trailers(fields) is good
