"""The HTTP layer of one connection, that forgets what has ended."""

from __future__ import annotations

from copy import copy

from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as engine_http
from mitmproxy.proxy.layers.http import GetHttpConnection, HttpLayer, HTTPMode, HttpStream

from .sessions import session_of
from .upstream_forward import forwards


class PolicedHttpLayer(HttpLayer):
    """The engine's own keeps every server connection it ever had, and answers with the first error for ever."""

    def __init__(self, context: Context, mode: HTTPMode) -> None:
        super().__init__(context, mode)
        self._ended: set[Connection] = set()

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield from super()._handle_event(event)
        if isinstance(event, events.ConnectionClosed) and event.connection != self.context.client:
            self._ended.add(event.connection)
            self._forget_ended()
        elif isinstance(event, events.OpenConnectionCompleted):
            self._forget_ended()

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        """As the engine's own, whose fork of the context makes a server only to throw it away."""
        context = copy(self.context)
        context.layers = self.context.layers.copy()
        self.streams[stream_id] = stream = engine_http.HttpStream(context, stream_id)
        yield from self.event_to_child(stream, events.Start())

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> layer.CommandGenerator[None]:
        self._forget_ended()
        yield from super().get_connection(event, reuse=reuse and not self._needs_tunnel(event))

    def _needs_tunnel(self, event: GetHttpConnection) -> bool:
        """Whether it is for a plain WebSocket through an upstream proxy: open connections end at the proxy."""
        session, stream = session_of(self.context.client.id), self.command_sources.get(event)
        verdict = session.approved(stream.flow) if session and isinstance(stream, HttpStream) else None
        return verdict is not None and verdict.upstream is not None and not (event.tls or forwards(verdict))

    def _forget_ended(self) -> None:
        used = {stream.context.server for stream in self.streams.values()}
        for connection in list(self.connections):
            if isinstance(connection, Server) and connection not in used and self._is_over(connection):
                del self.connections[connection]
        self._ended &= self.connections.keys()

    def _is_over(self, connection: Server) -> bool:
        """Whether nothing can come from the connection any more: it was closed, or never opened."""
        if connection.state is not ConnectionState.CLOSED or connection in self.waiting_for_establishment:
            return False
        return connection in self._ended or bool(connection.error and connection.timestamp_tcp_setup is None)
