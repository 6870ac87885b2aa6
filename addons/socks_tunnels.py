"""SOCKS5 tunnels in the engine: judged by the door, answered here, and then served like those of CONNECT."""

from __future__ import annotations

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import TCPLayer

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.socks.protocol import UNBOUND, ReplyCode, reply

from .http_tunnels import TLS_DEADLINE
from .sessions import Session, session_of
from .socks_answers import unreachable

LINGER = 2.0
"""Seconds that a refused client gets to read its reply while it may still be sending."""


class SocksTunnel(layer.Layer):
    """The top of the layers of a client that still waits for the reply to its request.

    A tunnel that is only relayed is dialled before the reply. An inspected one has to begin with TLS in time, and
    nothing is dialled before a request in it has passed.
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
        tunnel = _standing(session)
        if session is None or tunnel is None:
            yield from self._refuse(reply(ReplyCode.NOT_ALLOWED))
            return
        target = tunnel.request.target
        self.context.server.address = target.host.text, target.port
        if tunnel.inspect:
            yield from self._go_on(UNBOUND, layer.NextLayer(self.context))
            yield from self._wait(TLS_DEADLINE)
        else:
            session.grant(target.host.text, target.port, tunnel)
            yield from self._dial(session, tunnel)

    def _dial(self, session: Session, tunnel: Allowed) -> layer.CommandGenerator[None]:
        client, server = self.context.client, self.context.server
        session.hold(client, True)
        error = yield commands.OpenConnection(server)
        session.hold(client, False)
        if error:
            session.unreached(tunnel, error)
            yield from self._refuse(unreachable(session.failure))
        else:
            yield from self._go_on(server.sockname or UNBOUND, TCPLayer(self.context, ignore=True))

    def _go_on(self, bound: tuple[str, int], child: layer.Layer) -> layer.CommandGenerator[None]:
        yield commands.SendData(self.context.client, reply(ReplyCode.SUCCEEDED, bound))
        self._child = child
        yield from child.handle_event(events.Start())

    def _refuse(self, answer: bytes) -> layer.CommandGenerator[None]:
        """The reply, then the end; but not before the client could read it."""
        yield commands.SendData(self.context.client, answer)
        yield commands.CloseTcpConnection(self.context.client, half_close=True)
        yield from self._wait(LINGER)

    def _wait(self, seconds: float) -> layer.CommandGenerator[None]:
        self._timer = commands.RequestWakeup(seconds)
        yield self._timer


def _standing(session: Session | None) -> Allowed | None:
    """What the door has decided, unless the policy has changed since: then that is a block of its own, on record."""
    if session is None or session.tunnel is None or session.authority is None:
        return None
    if session.authority.still_allows(session.tunnel):
        return session.tunnel
    session.authority.deny(session.tunnel.request)
    return None
