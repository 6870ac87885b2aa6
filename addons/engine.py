"""The engine in this process: takes a client connection over from the door and runs it as if it had accepted it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import cast

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http._hooks import HttpConnectedHook, HttpConnectHook

from codex_network_proxy.policy.decision import ClientScope, NetworkProtocol

from .connection import PolicedConnection
from .door_tunnels import holds
from .handover import HandOver
from .hook_dispatch import CachedAddons
from .http_head import connect_request, find_head_end
from .judged_tunnels import ConnectTunnel, JudgedTunnel
from .socket_streams import streams_over
from .socks_tunnels import SocksTunnel
from .tenant import Tenant

logger = logging.getLogger("codex_network_proxy")


@dataclass(frozen=True, slots=True)
class Opening:
    """How a connection begins in the engine: what it is made to read first, and who reads it."""

    received: bytes = field(repr=False)
    layer: type[modes.HttpProxy | JudgedTunnel] = modes.HttpProxy
    user_agent: str | None = None


class InProcessEngine:
    """Implements `handover.Engine` with a plain call, for the clients of one proxy. Several may share one master."""

    def __init__(self, master: Master, tenant: Tenant) -> None:
        self._master = master
        self._tenant = tenant
        self._mode = mode_specs.ProxyMode.parse("regular")
        self._tasks: dict[asyncio.Task[None], PolicedConnection] = {}
        # Those whose stream is not set up yet are known here only.
        self._all: dict[asyncio.Task[None], HandOver] = {}

    def take(self, handover: HandOver) -> None:
        """Serves the connection in a task of its own; see `handover.Engine`."""
        # Started at once: a task that is cancelled before its first step would leave the socket open.
        task = asyncio.Task(self._serve(handover), loop=asyncio.get_running_loop(), eager_start=True)
        self._all[task] = handover
        task.add_done_callback(self._finished)

    def close(self) -> None:
        """Cuts every connection that is being served."""
        for task in list(self._all):
            _cut(task, self._tasks.get(task))

    def close_scope(self, scope: ClientScope) -> None:
        """Cuts the connections of one scope."""
        for task, handover in list(self._all.items()):
            if handover.scope is scope:
                _cut(task, self._tasks.get(task))

    async def wait_closed(self) -> None:
        """Returns when every connection has ended."""
        while self._all:
            await asyncio.wait(self._all)

    def recheck(self) -> int:
        """After a change of the policy: cuts each connection that does something it no longer allows; how many."""
        allowed = self._tenant.authority.still_allows
        doomed = [
            (task, handler)
            for task, handler in self._tasks.items()
            if not all(holds(allowed, verdict) for verdict in handler.verdicts())
        ]
        for task, handler in doomed:
            _cut(task, handler)
        return len(doomed)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._all.pop(task, None)
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            logger.error("an engine connection failed (%s)", type(error).__name__)

    async def _serve(self, handover: HandOver) -> None:
        try:
            try:
                if ctx.master is not self._master:
                    # The engine's own parts ask the context: another master's options would count for our clients.
                    raise RuntimeError("another mitmproxy engine was started in this process")
                opening = self._opening(handover)
                reader, writer = await streams_over(handover.sock, opening.received)
            except BaseException:
                handover.sock.close()
                raise
            # From here on the socket is the transport's: closing it behind its back would hit whoever gets the number.
            if writer.get_extra_info("peername") is None:
                writer.transport.abort()  # the client has reset the connection already
            else:
                await self._run(handover, opening, reader, writer)
        finally:
            handover.done()

    def _opening(self, handover: HandOver) -> Opening:
        tunnel = handover.verdict
        if tunnel is None:
            return Opening(handover.received)
        if tunnel.request.protocol is NetworkProtocol.SOCKS5_TCP:
            return Opening(handover.received, SocksTunnel)
        end = find_head_end(handover.received)
        by_request = not (tunnel.inspect and self._tenant.authority.still_allows(tunnel)) or self._others_see_tunnels()
        if by_request or end is None:
            return Opening(handover.received)
        head, _ = connect_request(handover.received[:end])
        return Opening(handover.received[end:], ConnectTunnel, next(iter(head.values("user-agent")), None))

    def _others_see_tunnels(self) -> bool:
        """Whether an addon that is not ours has a say in requests for tunnels, which then have to be flows."""
        addons = self._master.addons
        return not (isinstance(addons, CachedAddons) and addons.are_ours(HttpConnectHook, HttpConnectedHook))

    async def _run(
        self, handover: HandOver, opening: Opening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        handler = PolicedConnection(self._master, reader, writer, self._master.options, self._mode)
        handler.tenant, handler.scope, handler.tunnel = self._tenant, handover.scope, handover.verdict
        handler.user_agent = opening.user_agent
        handler.layer = opening.layer(handler.layer.context)
        if task := asyncio.current_task():
            self._tasks[task] = handler
        proxyserver = cast(Proxyserver, self._master.addons.get("proxyserver"))
        try:
            with proxyserver.register_connection(handler.client.id, handler):
                await handler.handle_client()
        except BaseException:
            writer.transport.abort()
            raise
        writer.close()


def _cut(task: asyncio.Task[None], handler: PolicedConnection | None) -> None:
    """Ends a connection as an idle one is ended, with its origins, but without waiting for bytes to be taken."""
    client = handler.transports.get(handler.client) if handler else None
    if client is None or client.handler is None:
        task.cancel()
        return
    client.handler.cancel("cut")
    if isinstance(client.writer, asyncio.StreamWriter):
        client.writer.transport.abort()
