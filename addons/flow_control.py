"""Who must wait when the other side is slow? Keeps the engine from piling up what cannot be passed on yet.

The engine reads as fast as it can and buffers what an HTTP/2 window, a hook or a dial holds back. Here whoever piles up
tells the stream (`Jam`), and the stream asks the source to wait (`Throttle`): an HTTP/1 connection is not read any
further, an HTTP/2 stream gets no more window.
"""

from __future__ import annotations

from dataclasses import dataclass

from mitmproxy.connection import Connection
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    HttpEvent,
    HttpStream,
    RequestData,
    ResponseData,
    SendHttp,
)

PILE_LIMIT = 256 * 1024
"""Bytes of one stream that may pile up in one direction before the source is asked to wait."""


@dataclass
class Jam(HttpEvent):
    """More has piled up towards one side than it takes at the moment; or no longer."""

    towards_client: bool
    on: bool


@dataclass
class Throttle(HttpEvent):
    """Asks a side to send no more of this stream for now; or to go on."""

    on: bool


class BrakedHttpStream(HttpStream):
    """A stream that lets its sources wait while it is busy itself, or while the other side is."""

    _piled_request = 0
    _piled_response = 0

    def __init__(self, context: Context, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self._brakes: dict[Connection, set[str]] = {}

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """What arrives while a hook or a dial is under way is queued by the engine; here it is counted."""
        yield from super().handle_event(event)
        if self._paused:
            if isinstance(event, RequestData):
                self._piled_request += len(event.data)
            elif isinstance(event, ResponseData):
                self._piled_response += len(event.data)
        elif self._piled_request or self._piled_response:
            self._piled_request = self._piled_response = 0
        else:
            return
        yield from self._brake(self.context.client, "busy", self._piled_request > PILE_LIMIT)
        yield from self._brake(self.context.server, "busy", self._piled_response > PILE_LIMIT)

    def on_jam(self, event: Jam) -> layer.CommandGenerator[None]:
        source = self.context.server if event.towards_client else self.context.client
        yield from self._brake(source, "jam", event.on)

    def release_brakes(self) -> layer.CommandGenerator[None]:
        """The stream has ended: whoever waited for it may send again."""
        for connection in list(self._brakes):
            self._brakes[connection].clear()
            yield from self._tell(connection)

    def _brake(self, connection: Connection, reason: str, on: bool) -> layer.CommandGenerator[None]:
        reasons = self._brakes.setdefault(connection, set()) if on else self._brakes.get(connection)
        if reasons is None or on == (reason in reasons):
            return
        before = bool(reasons)
        reasons.symmetric_difference_update({reason})
        if bool(reasons) != before:
            yield from self._tell(connection)

    def _tell(self, connection: Connection) -> layer.CommandGenerator[None]:
        on = bool(self._brakes[connection])
        if not on:
            del self._brakes[connection]
        yield SendHttp(Throttle(self.stream_id, on), connection)
