"""Class E: everything that names the host must name the tunnel's. Also D05: a tunnel inside a tunnel.

The ClientHello rows, E11 and E12, are in `test_client_hello`. E09 in clear is in `rows_framing`.
"""

from __future__ import annotations

from .rows_inner import (
    BEARER,
    CUT,
    FULL,
    HOOK_DENIED,
    INNER,
    INNER_H2,
    LIMITED,
    METHOD,
    PASSED,
    RAW,
    REFUSED,
    H2Row,
    InnerRow,
    RawInnerRow,
    get,
    post,
)

PATH = "/repos/openai/x"
MISMATCH = "host mismatch"
ONE_TOKEN = (("authorization", (BEARER,)),)


def _mismatch(case: str, authority: bytes) -> tuple[InnerRow, InnerRow]:
    """Refused on a hooked host, and on one that is only read."""
    full = InnerRow(f"E09 {case}", post(PATH, authority=authority), (REFUSED,), text=MISMATCH)
    return full, InnerRow(
        f"E09 {case}, on a host without hooks",
        get(PATH, authority=authority),
        (REFUSED,),
        RAW,
        LIMITED,
        text=MISMATCH,
    )


def _malformed(case: str, authority: bytes) -> tuple[InnerRow, InnerRow]:
    """No authority at all: HTTP/2 may end the stream for it (RFC 9113 section 8.1.1)."""
    inner = post(PATH, authority=authority)
    one = InnerRow(f"E09 {case}", inner, (REFUSED,), doors=(INNER,))
    return one, InnerRow(f"E09 {case}", inner, (REFUSED, CUT), doors=(INNER_H2,))


def _same(case: str, authority: bytes) -> InnerRow:
    return InnerRow(f"E09 {case}", post(PATH, authority=authority), (PASSED,), at_origin=ONE_TOKEN)


AUTHORITY = (
    *_mismatch("another host", b"evil.test:{port}"),
    *_mismatch("another allowed host", b"allowed.test:{port}"),
    *_mismatch("a denied host", b"denied.test:{port}"),
    *_mismatch("another port", b"api.allowed.test:1"),
    *_mismatch("no port, which means 443", b"api.allowed.test"),
    *_mismatch("a name below", b"x.api.allowed.test:{port}"),
    *_mismatch("a name above", b"allowed.test:{port}"),
    *_mismatch("the address of the host", b"127.0.0.1:{port}"),
    *_mismatch("localhost", b"localhost:{port}"),
    *_malformed("user information", b"api.allowed.test@evil.test:{port}"),
    *_malformed("user information before the right host", b"evil.test@api.allowed.test:{port}"),
    *_malformed("a list of hosts", b"api.allowed.test:{port}, evil.test"),
    *_malformed("a host with a path", b"api.allowed.test:{port}/x"),
    *_malformed("a host with a NUL", b"api.allowed.test\x00.evil.test:{port}"),
    *_malformed("a port that is no number", b"api.allowed.test:https"),
    *_malformed("an escaped host", b"api%2eallowed.test:{port}"),
    _same("the host in capitals", b"API.Allowed.TEST:{port}"),
    _same("the host with a final dot", b"api.allowed.test.:{port}"),
    InnerRow("E10 another host in every forwarding header", post(
        PATH,
        (b"X-Forwarded-Host", b"evil.test"),
        (b"Forwarded", b"host=evil.test"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-For", b"203.0.113.1"),
        (b"Via", b"1.1 evil.test"),
        (b"X-Real-IP", b"203.0.113.1"),
        (b"CF-Connecting-IP", b"203.0.113.1"),
        (b"True-Client-IP", b"203.0.113.1"),
        (b"X-Client-IP", b"203.0.113.1"),
        (b"Client-IP", b"203.0.113.1"),
    ), (PASSED,), at_origin=(
        *ONE_TOKEN, ("x-forwarded-host", ()), ("forwarded", ()), ("x-forwarded-proto", ()), ("x-forwarded-for", ()),
        ("via", ()), ("x-real-ip", ()), ("cf-connecting-ip", ()), ("true-client-ip", ()), ("x-client-ip", ()),
        ("client-ip", ()),
    )),
    InnerRow("E10 the right path in X-Original-URL", post("/nope", (b"X-Original-URL", PATH.encode())), (HOOK_DENIED,)),
    InnerRow("E10 the right path in X-Rewrite-URL", post("/nope", (b"X-Rewrite-URL", PATH.encode())), (HOOK_DENIED,)),
    InnerRow("E10 the right method in X-HTTP-Method-Override", get(
        PATH, (b"X-HTTP-Method-Override", b"POST"), (b"X-HTTP-Method", b"POST"), (b"X-Method-Override", b"POST"),
    ), (HOOK_DENIED,)),
    InnerRow("E10 method overrides do not leave in limited mode", get(
        "/echo", (b"X-HTTP-Method-Override", b"DELETE"), (b"X-HTTP-Method", b"PUT"), (b"X-Method-Override", b"PATCH"),
    ), (PASSED,), RAW, LIMITED, at_origin=(
        ("x-http-method-override", ()), ("x-http-method", ()), ("x-method-override", ()),
    )),
    InnerRow("E10 a header that ends here fulfils no hook", get(
        "/repos/x", (b"X-Forwarded-For", b"203.0.113.1"), (b"Via", b"1.1 me"),
    ), (HOOK_DENIED,), "hops.allowed.test"),
)  # fmt: skip


def _line(
    case: str, line: bytes, fields: bytes = b"Host: {at}\r\n", right: tuple[str, ...] = (REFUSED,)
) -> RawInnerRow:
    return RawInnerRow(case, line + b"\r\n" + fields + b"\r\n", right)


AUTHORITY_HTTP1 = (
    # Whoever names no host means the tunnel's.
    RawInnerRow("E09 no Host", b"POST /repos/openai/x HTTP/1.1\r\n\r\n", (REFUSED, PASSED), unseen=b""),
    _line("E09 an empty Host", b"POST /repos/openai/x HTTP/1.1", b"Host:\r\n"),
    _line("E09 two Hosts that agree", b"POST /repos/openai/x HTTP/1.1", b"Host: {at}\r\nHost: {at}\r\n"),
    _line("E09 the right Host and another", b"POST /repos/openai/x HTTP/1.1", b"Host: {at}\r\nHost: evil.test\r\n"),
    _line("E09 another Host and the right one", b"POST /repos/openai/x HTTP/1.1", b"Host: evil.test\r\nhost: {at}\r\n"),
    _line("E09 another host in absolute form", b"POST https://evil.test:{port}/repos/openai/x HTTP/1.1"),
    _line(
        "E09 another host in absolute form and in Host",
        b"POST https://evil.test:{port}/repos/openai/x HTTP/1.1",
        b"Host: evil.test:{port}\r\n",
    ),
    _line("E09 another port in absolute form", b"POST https://api.allowed.test:1/repos/openai/x HTTP/1.1"),
    _line("E09 the right host in absolute form, another in Host", b"POST https://{at}/repos/openai/x HTTP/1.1",
          b"Host: evil.test\r\n"),
    _line("E09 plain http in absolute form", b"POST http://{at}/repos/openai/x HTTP/1.1",
          right=(REFUSED, "mitm_required")),
    RawInnerRow(
        "E09 the right host in absolute form",
        b"POST https://{at}/repos/openai/x HTTP/1.1\r\nHost: {at}\r\n\r\n",
        (PASSED,),
        unseen=b"https:",
    ),
    _line("D07 plain http to another host", b"GET http://evil.test/repos/x HTTP/1.1", b"Host: evil.test\r\n"),
    RawInnerRow(
        "D05 CONNECT to another host",
        b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
        ("405",),
        text="CONNECT not supported inside MITM",
    ),
    RawInnerRow(
        "D05 CONNECT to the same host",
        b"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n",
        ("405",),
        text="CONNECT not supported inside MITM",
    ),
    RawInnerRow(
        "D05 CONNECT in limited mode",
        b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
        ("405",),
        RAW,
        LIMITED,
        text="CONNECT not supported inside MITM",
    ),
)  # fmt: skip


def _fields(
    *more: tuple[bytes, bytes],
    authority: bytes | None = b"{at}",
    scheme: bytes = b"https",
    path: bytes = b"/repos/openai/x",
    method: bytes = b"POST",
) -> tuple[tuple[bytes, bytes], ...]:
    named = () if authority is None else ((b":authority", authority),)
    return ((b":method", method), (b":scheme", scheme), *named, (b":path", path), *more)


AUTHORITY_HTTP2 = (
    H2Row("E09 another host beside the right authority", _fields((b"host", b"evil.test:{port}"))),
    H2Row("E09 the right host beside another authority", _fields((b"host", b"{at}"), authority=b"evil.test:{port}")),
    H2Row("E09 two hosts beside the right authority", _fields((b"host", b"{at}"), (b"host", b"evil.test"))),
    H2Row("E09 two authorities", ((b":authority", b"evil.test"), *_fields())),
    H2Row("E09 an empty authority", _fields(authority=b"")),
    H2Row("E09 neither authority nor host", _fields(authority=None), (PASSED, REFUSED, CUT), arrives=1),
    H2Row("E09 another host without an authority", _fields((b"host", b"evil.test:{port}"), authority=None)),
    H2Row("E09 the right host without an authority", _fields((b"host", b"{at}"), authority=None), (PASSED,), arrives=1),
    H2Row("E09 the right host twice", _fields((b"host", b"{at}")), (PASSED, REFUSED, CUT), arrives=1),
    H2Row("E09 another scheme", _fields(scheme=b"http"), (REFUSED, CUT, "mitm_required")),
    H2Row("E09 a scheme that is none", _fields(scheme=b"gopher"), (REFUSED, CUT, "mitm_required")),
    H2Row(
        "E09 another scheme, on a host without hooks",
        _fields(scheme=b"http", method=b"GET", path=b"/echo"),
        (REFUSED, CUT),
        host=RAW,
        policy=LIMITED,
    ),
    H2Row("E09 an absolute path", _fields(path=b"https://evil.test/repos/openai/x"), (REFUSED, CUT, HOOK_DENIED)),
    H2Row("E09 an absolute path to the same host", _fields(path=b"https://{at}/repos/openai/x"),
          (REFUSED, CUT, HOOK_DENIED)),
    H2Row(
        "D05 CONNECT to another host",
        ((b":method", b"CONNECT"), (b":authority", b"evil.test:443")),
        ("405", REFUSED, CUT),
    ),
    H2Row(
        "D05 CONNECT to the same host, in limited mode",
        ((b":method", b"CONNECT"), (b":authority", b"{at}")),
        ("405", REFUSED, CUT),
        host=RAW,
        policy=LIMITED,
    ),
    H2Row(
        "H06 a WebSocket over HTTP/2 (RFC 8441)",
        ((b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":authority", b"{at}"),
         (b":path", b"/ws")),
        ("405", REFUSED, CUT, METHOD, HOOK_DENIED),
        host="ws.allowed.test",
        policy=FULL,
    ),
)  # fmt: skip
