"""Tunnels that the door has judged: answered here, without a request, and then served by the layers behind them."""

from __future__ import annotations

from abc import abstractmethod

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.policy.responses import connect_refusal

from .door_answers import ESTABLISHED
from .http_tunnels import TLS_DEADLINE
from .sessions import Session, session_of

LINGER = 2.0
"""Seconds that a refused client gets to read its answer while it may still be sending."""


class JudgedTunnel(layer.Layer):
    """The top of the layers of a client that still waits for the answer to its request for a tunnel.

    An inspected tunnel has to begin with TLS in time, and nothing is dialled before a request in it has passed.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._child: layer.Layer | None = None
        self._timer: commands.RequestWakeup | None = None

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        client = self.context.client
        if isinstance(event, events.Start):
            yield from self._begin()
        elif isinstance(event, events.Wakeup) and event.command is self._timer:
            if self._child is None or not client.tls_established:
                yield commands.CloseConnection(client)
        elif self._child:
            yield from self._child.handle_event(event)
        elif isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(client)

    def _begin(self) -> layer.CommandGenerator[None]:
        session = session_of(self.context.client.id)
        tunnel = session.tunnel if session else None
        if session is None or session.authority is None or tunnel is None:
            yield commands.CloseConnection(self.context.client)
        elif not session.authority.still_allows(tunnel):
            # The policy has changed since: that is a block of its own, on record.
            yield from self._refuse(self.refusal(session, tunnel))
        else:
            self.context.server.address = tunnel.request.target.host.text, tunnel.request.target.port
            yield from self._serve(session, tunnel)

    def _serve(self, session: Session, tunnel: Allowed) -> layer.CommandGenerator[None]:
        """Of an inspected tunnel; what is only relayed the door keeps."""
        if not tunnel.inspect:
            yield commands.CloseConnection(self.context.client)
            return
        yield from self._go_on(self.granted(None), layer.NextLayer(self.context))
        yield from self._wait(TLS_DEADLINE)

    @abstractmethod
    def granted(self, bound: tuple[str, int] | None) -> bytes:
        """The answer to a client whose tunnel begins; `bound` is our address towards its target, if there is one."""

    @abstractmethod
    def refusal(self, session: Session, tunnel: Allowed) -> bytes:
        """Blocks the tunnel, on record; the answer to the client."""

    def _go_on(self, answer: bytes, child: layer.Layer) -> layer.CommandGenerator[None]:
        yield commands.SendData(self.context.client, answer)
        self._child = child
        yield from child.handle_event(events.Start())

    def _refuse(self, answer: bytes) -> layer.CommandGenerator[None]:
        """The answer, then the end; but not before the client could read it."""
        yield commands.SendData(self.context.client, answer)
        yield commands.CloseTcpConnection(self.context.client, half_close=True)
        yield from self._wait(LINGER)

    def _wait(self, seconds: float) -> layer.CommandGenerator[None]:
        self._timer = commands.RequestWakeup(seconds)
        yield self._timer


class ConnectTunnel(JudgedTunnel):
    """An inspected tunnel of CONNECT: no HTTP layers around those that are in it."""

    def granted(self, bound: tuple[str, int] | None) -> bytes:
        return ESTABLISHED

    def refusal(self, session: Session, tunnel: Allowed) -> bytes:
        assert session.authority
        return connect_refusal(session.authority.deny(tunnel.request), close=True)
