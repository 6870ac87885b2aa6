"""An origin that agrees to a WebSocket in ways that RFC 6455 section 4.1 tells clients to refuse."""

from __future__ import annotations

from .origins import Exchange
from .websocket import accept_key, frame

SWITCHING = "101 Switching Protocols"
UPGRADED = ("upgrade: websocket", "connection: Upgrade")
KINDS = ("wrong-accept", "no-accept", "two-accepts", "no-upgrade", "other-upgrade", "no-connection", "unasked-protocol",
         "unasked-extension", "two-protocols")  # fmt: skip


def dishonest_websocket(exchange: Exchange) -> None:
    """Answers `/bad-ws/KIND` with a 101 that is wrong in that way, and a frame."""
    right = f"sec-websocket-accept: {accept_key(exchange.head.get('sec-websocket-key') or '')}"
    wrong = f"sec-websocket-accept: {accept_key('another')}"
    fields = {
        "wrong-accept": (*UPGRADED, wrong),
        "no-accept": UPGRADED,
        "two-accepts": (*UPGRADED, right, wrong),
        "no-upgrade": ("connection: Upgrade", right),
        "other-upgrade": ("upgrade: foo", "connection: Upgrade", right),
        "no-connection": ("upgrade: websocket", right),
        "unasked-protocol": (*UPGRADED, right, "sec-websocket-protocol: chat"),
        "two-protocols": (*UPGRADED, right, "sec-websocket-protocol: one", "sec-websocket-protocol: two"),
        "unasked-extension": (*UPGRADED, right, "sec-websocket-extensions: permessage-deflate"),
    }
    exchange.start(SWITCHING, *fields[exchange.path.rpartition("/")[2]])
    exchange.send(frame(b"hello"))
