"""WebSockets: is this really the upgrade that both sides agreed on? And who carries it afterwards (RFC 6455)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.websocket import WebsocketConnection, WebsocketEndHook, WebsocketLayer
from mitmproxy.websocket import WebSocketData

from .websocket_frames import TOO_BIG, FrameRelay, close_frame

MESSAGE_LIMIT = 4 << 20
"""Bytes of one message while mitmweb is there, which shows messages whole; without it they have no limit."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def asks_for_websocket(request: http.Request) -> bool:
    """Whether the request asks for a WebSocket, for nothing else, and correctly (RFC 6455 section 4.1)."""
    headers = request.headers
    return (
        request.data.method == b"GET"
        and request.data.http_version == b"HTTP/1.1"
        and _tokens(headers, "upgrade") == ["websocket"]
        and "upgrade" in _tokens(headers, "connection")
        and headers.get_all("sec-websocket-version") == ["13"]
        and _is_key(headers.get_all("sec-websocket-key"))
    )


def handshake_problem(request: http.Request, response: http.Response) -> str | None:
    """What is wrong with a `101`, as a text for the client; `None` when it is what the request asked for."""
    headers = response.headers
    if not asks_for_websocket(request) or _tokens(headers, "upgrade") != ["websocket"]:
        return "the origin switched protocols unasked"
    if "upgrade" not in _tokens(headers, "connection"):
        return "the origin switched protocols unasked"
    if headers.get_all("sec-websocket-accept") != [accept_value(request.headers["sec-websocket-key"])]:
        return "the origin's WebSocket handshake is wrong"
    offered, chosen = _tokens(request.headers, _PROTOCOL, lower=False), _tokens(headers, _PROTOCOL, lower=False)
    if len(chosen) > 1 or not set(chosen) <= set(offered):
        return "the origin chose a WebSocket subprotocol that was not offered"
    if not set(_extensions(headers)) <= set(_extensions(request.headers)):
        return "the origin chose a WebSocket extension that was not offered"
    return None


_PROTOCOL = "sec-websocket-protocol"


def accept_value(key: str) -> str:
    """The only right answer to a handshake's key."""
    digest = hashlib.sha1(key.encode("latin-1", "replace") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _is_key(values: list[str]) -> bool:
    try:
        return len(values) == 1 and len(base64.b64decode(values[0], validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _tokens(headers: http.Headers, name: str, *, lower: bool = True) -> list[str]:
    tokens = [token.strip() for value in headers.get_all(name) for token in value.split(",")]
    return [token.lower() if lower else token for token in tokens if token]


def _extensions(headers: http.Headers) -> Iterator[str]:
    for token in _tokens(headers, "sec-websocket-extensions"):
        yield token.partition(";")[0].strip()


def carrier(context: Context, flow: http.HTTPFlow, *, shown: bool) -> layer.Layer:
    """The layer that carries the messages: frame by frame, or as whole messages that mitmweb shows."""
    if not shown:
        assert flow.response
        flow.websocket = None
        return FrameRelay(context, extended="sec-websocket-extensions" in flow.response.headers)
    flow.websocket = WebSocketData()
    return BoundedWebsocketLayer(context, flow)


class BoundedWebsocketLayer(WebsocketLayer):
    """As the engine's own, which puts messages together before it passes them on; here they have an end."""

    def relay_messages(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield from super().relay_messages(event)
        if self._handle_event != self.done and max(map(_pending, (self.client_ws, self.server_ws))) > MESSAGE_LIMIT:
            yield from self._end()

    def _end(self) -> layer.CommandGenerator[None]:
        for side in (self.server_ws, self.client_ws):
            yield commands.SendData(side.conn, close_frame(TOO_BIG, masked=side is self.server_ws))
            yield commands.CloseConnection(side.conn)
        yield WebsocketEndHook(self.flow)
        self.flow.live = False
        self._handle_event = self.done


def _pending(side: WebsocketConnection) -> int:
    return sum(map(len, side.frame_buf))
