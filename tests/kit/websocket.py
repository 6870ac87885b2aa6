"""WebSocket frames, enough for an echo (RFC 6455)."""

from __future__ import annotations

import base64
import hashlib
import os
import struct

from .origins import Exchange
from .raw import Client
from .wire import Response, Stream

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE = 1, 2, 8


def accept_key(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def frame(payload: bytes, opcode: int = TEXT, mask: bytes = b"") -> bytes:
    """One final frame; clients give a four-byte mask."""
    size, masked = len(payload), 0x80 if mask else 0
    if size < 126:
        length = struct.pack("!B", masked | size)
    elif size < 1 << 16:
        length = struct.pack("!BH", masked | 126, size)
    else:
        length = struct.pack("!BQ", masked | 127, size)
    return struct.pack("!B", 0x80 | opcode) + length + mask + _mask(payload, mask)


def _mask(payload: bytes, mask: bytes) -> bytes:
    if not mask:
        return payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(len(payload))


def read_frame(stream: Stream) -> tuple[int, bytes]:
    """Opcode and payload of the next frame."""
    first, second = stream.exactly(2)
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(stream.exactly(2 if size == 126 else 8))
    mask = stream.exactly(4) if second & 0x80 else b""
    return first & 0x0F, _mask(stream.exactly(size), mask)


def websocket_echo(exchange: Exchange) -> None:
    """An origin's handler: greets first, then sends every message back until the client closes."""
    key = exchange.head.get("sec-websocket-key") or ""
    accept = f"sec-websocket-accept: {accept_key(key)}"
    exchange.start("101 Switching Protocols", "upgrade: websocket", "connection: Upgrade", accept)
    exchange.send(frame(b"hello"))
    while True:
        opcode, payload = read_frame(exchange.stream)
        exchange.send(frame(payload, opcode))
        if opcode == CLOSE:
            return


def upgrade(client: Client, target: str, authority: str, upgrade_to: str = "websocket") -> Response:
    """Asks for a WebSocket; `target` is absolute through a plain proxy, a path inside a tunnel."""
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {authority}",
        f"Upgrade: {upgrade_to}",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
    ]
    return client.ask("\r\n".join([*lines, "", ""]).encode())


def send_message(client: Client, payload: bytes, opcode: int = TEXT) -> None:
    client.send(frame(payload, opcode, os.urandom(4)))
