"""SOCKS5 tunnels in the engine: judged by the door, answered here, and then served like those of CONNECT."""

from __future__ import annotations

from mitmproxy.proxy import commands, layer
from mitmproxy.proxy.layers import TCPLayer

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.socks.protocol import UNBOUND, ReplyCode, reply

from .judged_tunnels import JudgedTunnel
from .sessions import Session
from .socks_answers import unreachable


class SocksTunnel(JudgedTunnel):
    """A tunnel that is only relayed is dialled before the reply."""

    def granted(self, bound: tuple[str, int] | None) -> bytes:
        return reply(ReplyCode.SUCCEEDED, bound or UNBOUND)

    def refusal(self, session: Session, tunnel: Allowed) -> bytes:
        assert session.authority
        session.authority.deny(tunnel.request)
        return reply(ReplyCode.NOT_ALLOWED)

    def _serve(self, session: Session, tunnel: Allowed) -> layer.CommandGenerator[None]:
        if tunnel.inspect:
            yield from super()._serve(session, tunnel)
            return
        target = tunnel.request.target
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
            yield from self._go_on(self.granted(server.sockname), TCPLayer(self.context, ignore=True))
