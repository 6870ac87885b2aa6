"""Tunnels in the engine: relayed ones are dialled before the answer, inspected ones have to begin with TLS in time."""

from __future__ import annotations

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import TCPLayer
from mitmproxy.proxy.layers.http import (
    DropStream,
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    ResponseData,
    ResponseProtocolError,
    SendHttp,
)

from codex_network_proxy.policy.responses import error_response

from .blocked import answer
from .flow_control import BrakedHttpStream
from .sessions import Session, session_of
from .upstream_errors import client_text

TLS_DEADLINE = 10.0
"""Seconds from the `200` of an inspected tunnel to the end of the TLS handshake in it."""


class TunnelHttpStream(BrakedHttpStream):
    """What a stream does once it is a tunnel, and how it ends."""

    _tls_timer: commands.RequestWakeup | None = None

    @property
    def session(self) -> Session | None:
        """What was decided for this client; `None` where nothing was, as in a replay."""
        return session_of(self.context.client.id)

    def drop(self) -> layer.CommandGenerator[None]:
        """The stream has ended, and everything about it is forgotten."""
        yield from self.release_brakes()
        if session := self.session:
            session.forget(self.flow)
        yield DropStream(self.stream_id)

    def handle_connect_regular(self) -> layer.CommandGenerator[None]:
        """A tunnel that is only relayed is dialled before the answer; an inspected one when a request has passed."""
        session = self.session
        tunnel = session.tunnel if session else None
        inspect = tunnel is None or tunnel.inspect
        if self.flow.response is None and not inspect:
            error = yield commands.OpenConnection(self.context.server)
            if error:
                if session and tunnel:
                    session.unreached(tunnel, error)
                answer(self.flow, error_response(502, client_text(502, error)))
        # A relayed tunnel may be quiet for as long as it likes; the engine would not even notice its end.
        self.child_layer = layer.NextLayer(self.context) if inspect else TCPLayer(self.context, ignore=True)
        yield from self.handle_connect_finish()  # type: ignore[no-untyped-call]  # the engine's own
        if self.client_state == self.state_errored:
            yield from self.drop()
        elif inspect:
            self._tls_timer = commands.RequestWakeup(TLS_DEADLINE)
            yield self._tls_timer

    def passthrough(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the engine's own, but one side of a tunnel may finish before the other."""
        if isinstance(event, events.Wakeup) and event.command is self._tls_timer:
            if not self.context.client.tls_established:
                yield commands.CloseConnection(self.context.client)
        elif self.flow.request.data.method != b"CONNECT":
            yield from super().passthrough(event)
        else:
            assert self.child_layer
            for command in self.child_layer.handle_event(self._as_connection_event(event)):
                yield self._as_http_command(command)

    def _as_connection_event(self, event: events.Event) -> events.Event:
        match event:
            case RequestData():
                return events.DataReceived(self.context.client, event.data)
            case RequestEndOfMessage():
                return events.ConnectionClosed(self.context.client)
            case _:
                return event

    def _as_http_command(self, command: commands.Command) -> commands.Command:
        client = self.context.client
        match command:
            case commands.SendData() if command.connection == client:
                return SendHttp(ResponseData(self.stream_id, command.data), client)
            case commands.CloseTcpConnection(half_close=True):
                return command
            case commands.CloseConnection() if command.connection == client:
                error = ResponseProtocolError(self.stream_id, "EOF", ErrorCode.PASSTHROUGH_CLOSE)
                return SendHttp(error, client)
            case _:
                return command
