"""HTTP/1 bodies on both sides of the engine: read strictly, without trailers, and never hoarded."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import h11
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._http1 import Http1Connection

from .flow_control import Throttle
from .http1_messages import Framing
from .sessions import session_of

MALFORMED = "malformed message body"


class StrictBodies(Http1Connection):
    """What both HTTP/1 sides share. Each side says what a malformed body means for it."""

    _throttled = False
    _framing = Framing.RAW

    @abstractmethod
    def bad_body(self) -> layer.CommandGenerator[None]:
        """The body cannot be read any further."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, Throttle):
            self._throttled = event.on
        else:
            yield from super()._handle_event(event)
        self._hold_or_release()

    def must_wait(self) -> bool:
        """Whether the peer has to wait with what it still sends."""
        return self._throttled

    def _hold_or_release(self) -> None:
        if session := session_of(self.context.client.id):
            session.hold(self.conn, self.must_wait())

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Passes the body on, piece by piece. Trailers are dropped: no policy has seen them."""
        assert self.stream_id is not None
        while True:
            try:
                part = self._next_part(event)
            except h11.ProtocolError:
                yield from self.bad_body()
                return
            if part is None:
                return
            if isinstance(part, h11.EndOfMessage):
                yield from self._end_of_body()
                return
            if part.data:
                yield ReceiveHttp(self._data(bytes(part.data)))

    def _next_part(self, event: events.Event) -> Any:
        if isinstance(event, events.ConnectionClosed):
            return self.body_reader.read_eof()
        return self.body_reader(self.buf)

    def _data(self, data: bytes) -> HttpEvent:
        assert self.stream_id is not None
        return self.ReceiveData(self.stream_id, data)

    @abstractmethod
    def _end_of_body(self) -> layer.CommandGenerator[None]: ...

    def make_pipe(self) -> layer.CommandGenerator[None]:
        """As the engine's own, but every byte passes that came behind the head, line breaks too."""
        self.state, self._framing = self.passthrough, Framing.RAW
        if data := self.buf.maybe_extract_at_most(len(self.buf)):
            yield from self.state(events.DataReceived(self.conn, bytes(data)))

    def cut(self) -> layer.CommandGenerator[None]:
        yield commands.CloseConnection(self.conn)
        self.state = self.done
