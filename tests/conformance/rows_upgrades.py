"""Class H: upgrades. A WebSocket passes in full mode, after the check; nothing else is ever upgraded.

WebSocket frames (H07) are in `tests/e2e/test_inner_websocket`. H04, HTTP/2 in clear, is also among the bytes that are
no TLS in `tests/e2e/test_side_doors`. Not a row: H09, protocols where the server speaks first. In an intercepted tunnel
nobody speaks until the client has said hello in TLS; in tunnels that are only relayed they work
(`tests/e2e/test_tunnels`).
"""

from __future__ import annotations

from tests.kit.dishonest import KINDS
from tests.kit.inner import Inner

from .rows_inner import (
    CUT,
    FAILED,
    FULL,
    HOOK_DENIED,
    INNER,
    INNER_H2,
    LIMITED,
    METHOD,
    PASSED,
    RAW,
    REFUSED,
    InnerRow,
    RawInnerRow,
    get,
)

WS = "ws.allowed.test"
KEY = ((b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"Sec-WebSocket-Version", b"13"))
GONE = (("upgrade", ()), ("connection", ()), ("http2-settings", ()))


def _upgrade(protocol: bytes, *more: tuple[bytes, bytes], path: str = "/echo") -> Inner:
    return get(path, (b"Upgrade", protocol), (b"Connection", b"Upgrade"), *more)


def _ignored(case: str, inner: Inner) -> tuple[InnerRow, InnerRow]:
    """Refused, or passed on without any upgrade (which RFC 9110 section 7.8 leaves to the server)."""
    right = (PASSED, REFUSED, HOOK_DENIED)
    return (
        InnerRow(f"H03 {case}", inner, right, WS, FULL, GONE, doors=(INNER,)),
        InnerRow(f"H03 {case}, in limited mode", inner, (*right, METHOD), RAW, LIMITED, GONE, doors=(INNER,)),
    )


UPGRADES = (
    *_ignored("another protocol", _upgrade(b"foo")),
    *_ignored("HTTP/2 in clear", _upgrade(b"h2c", (b"HTTP2-Settings", b"AAMAAABkAAQAAP__"))),
    *_ignored("HTTP/2 in clear, in capitals", _upgrade(b"H2C")),
    *_ignored("HTTP/2 in clear in a list", _upgrade(b"h2c, foo")),
    *_ignored("HTTP/2 in clear in a list with websocket", _upgrade(b"websocket, h2c", *KEY)),
    *_ignored("two Upgrade fields", _upgrade(b"foo", (b"Upgrade", b"h2c"))),
    *_ignored("two Upgrade fields, one of them websocket", _upgrade(b"websocket", (b"Upgrade", b"h2c"), *KEY)),
    *_ignored("a name that holds websocket", _upgrade(b"notwebsocket", *KEY)),
    *_ignored("TLS", _upgrade(b"TLS/1.2")),
    *_ignored("Upgrade without Connection", get("/echo", (b"Upgrade", b"foo"))),
    InnerRow("H01 a WebSocket", _upgrade(b"websocket", *KEY, path="/ws"), ("101",), WS, doors=(INNER,)),
    InnerRow("H01 a WebSocket in capitals", _upgrade(b"WebSocket", *KEY, path="/ws"), ("101",), WS, doors=(INNER,)),
    InnerRow("H01 a WebSocket that no hook allows", _upgrade(b"websocket", *KEY, path="/no"), (HOOK_DENIED,), WS,
             doors=(INNER,)),
    InnerRow("H01 a WebSocket in limited mode", _upgrade(b"websocket", *KEY, path="/ws"), (METHOD,), RAW, LIMITED,
             doors=(INNER,)),
    InnerRow("H01 a WebSocket in limited mode that a hook allows", _upgrade(b"websocket", *KEY, path="/ws"), (METHOD,),
             WS, LIMITED, doors=(INNER,)),
    InnerRow("H02 the origin switches to what was asked for", _upgrade(b"foo", path="/raw/switching"),
             (FAILED, REFUSED, HOOK_DENIED), WS, doors=(INNER,)),
    InnerRow("H05 the origin switches unasked", get("/raw/switching"), (FAILED,), WS),
    InnerRow("H05 the origin switches to another protocol than the WebSocket",
             _upgrade(b"websocket", *KEY, path="/raw/switching"), (FAILED,), WS, doors=(INNER,)),
    *(InnerRow(f"H05 the origin agrees to a WebSocket with {kind}",
               _upgrade(b"websocket", *KEY, path=f"/bad-ws/{kind}"), (FAILED,), WS, doors=(INNER,)) for kind in KINDS),
    # A connection has no place for these over HTTP/2 (RFC 9113 section 8.2.2).
    InnerRow("H06 Upgrade over HTTP/2", get("/echo", (b"Upgrade", b"websocket")), (REFUSED, CUT), WS,
             doors=(INNER_H2,)),
    InnerRow("H06 Connection over HTTP/2", get("/echo", (b"Connection", b"x-a")), (REFUSED, CUT), WS,
             doors=(INNER_H2,)),
)  # fmt: skip

UPGRADES_HTTP1 = (
    RawInnerRow(
        "H08 a request right behind the WebSocket's head",
        b"GET /raw/switching HTTP/1.1\r\nHost: {at}\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n"
        b"DELETE /repos/smuggled HTTP/1.1\r\nHost: {at}\r\n\r\n",
        (FAILED, REFUSED, HOOK_DENIED),
        WS,
        unseen=b"DELETE",
    ),
    RawInnerRow("H04 the HTTP/2 preface inside", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (REFUSED, CUT, "505"), WS,
                unseen=b"PRI"),
)  # fmt: skip
