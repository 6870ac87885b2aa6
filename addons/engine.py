"""The engine in this process: takes a client connection over from the door and runs it as if it had accepted it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.layers import modes

from codex_network_proxy.policy.decision import Allowed, NetworkProtocol

from .connection import PolicedConnection
from .door_tunnels import holds
from .handover import HandOver
from .socks_tunnels import SocksTunnel
from .tenant import Tenant

logger = logging.getLogger("codex_network_proxy")

READ_LIMIT = 64 * 1024
"""Bytes a stream reader holds before the client is made to wait."""

MasterSource = Callable[[], Awaitable[Master]]
"""Gives the engine that runs in this process, once it does."""


@dataclass(slots=True)
class _Served:
    """A connection that was handed over; it has a handler once the engine runs."""

    handover: HandOver
    handler: PolicedConnection | None = None

    def verdicts(self) -> list[Allowed]:
        if self.handler:
            return self.handler.verdicts()
        return [self.handover.verdict] if self.handover.verdict else []


def running(master: Master) -> MasterSource:
    """An engine that is there already."""

    async def source() -> Master:
        return master

    return source


class InProcessEngine:
    """Implements `handover.Engine` with a plain call, for the clients of one proxy. Several may share one master."""

    def __init__(self, master: MasterSource, tenant: Tenant) -> None:
        self._master = master
        self._tenant = tenant
        self._mode = mode_specs.ProxyMode.parse("regular")
        self._tasks: dict[asyncio.Task[None], _Served] = {}

    def take(self, handover: HandOver) -> None:
        """Serves the connection in a task of its own; see `handover.Engine`."""
        served = _Served(handover)
        task = asyncio.Task(self._serve(served), loop=asyncio.get_running_loop(), eager_start=True)
        self._tasks[task] = served
        task.add_done_callback(self._finished)

    def close(self) -> None:
        """Cuts every connection that is being served."""
        for task, served in list(self._tasks.items()):
            _cut(task, served.handler)

    def recheck(self) -> int:
        """After a change of the policy: cuts each connection that does something it no longer allows; how many."""
        allowed = self._tenant.authority.still_allows
        doomed = [
            (task, served)
            for task, served in self._tasks.items()
            if not all(holds(allowed, verdict) for verdict in served.verdicts())
        ]
        for task, served in doomed:
            _cut(task, served.handler)
        return len(doomed)

    def _finished(self, task: asyncio.Task[None]) -> None:
        served = self._tasks.pop(task)
        if served.handler is None:
            # It never got to the engine: nobody else owns the socket.
            served.handover.sock.close()
        served.handover.done()
        if not task.cancelled() and (error := task.exception()):
            logger.error("an engine connection failed (%s)", type(error).__name__)

    async def _serve(self, served: _Served) -> None:
        master = await self._master()
        if ctx.master is not master:
            # The engine's own parts ask the context: another master's options would count for our clients.
            raise RuntimeError("another mitmproxy engine was started in this process")
        reader, writer = await _streams(served.handover)
        # From here on the socket is the transport's: closing it behind its back would hit whoever gets the number.
        served.handler = handler = PolicedConnection(master, reader, writer, master.options, self._mode)
        handler.tenant, handler.scope = self._tenant, served.handover.scope
        handler.tunnel = served.handover.verdict
        handler.layer = _top_layer(served.handover)(handler.layer.context)
        await _run(master, handler, writer)


async def _run(master: Master, handler: PolicedConnection, writer: asyncio.StreamWriter) -> None:
    proxyserver = cast(Proxyserver, master.addons.get("proxyserver"))
    try:
        with proxyserver.register_connection(handler.client.id, handler):
            await handler.handle_client()
    except BaseException:
        writer.transport.abort()
        raise
    writer.close()


def _top_layer(handover: HandOver) -> type[modes.HttpProxy] | type[SocksTunnel]:
    by_socks = handover.verdict and handover.verdict.request.protocol is NetworkProtocol.SOCKS5_TCP
    return SocksTunnel if by_socks else modes.HttpProxy


def _cut(task: asyncio.Task[None], handler: PolicedConnection | None) -> None:
    """Ends a connection as an idle one is ended, with its origins, but without waiting for bytes to be taken."""
    client = handler.transports.get(handler.client) if handler else None
    if client is None or client.handler is None:
        task.cancel()
        return
    client.handler.cancel("cut")
    if isinstance(client.writer, asyncio.StreamWriter):
        client.writer.transport.abort()


async def _streams(handover: HandOver) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_LIMIT, loop=loop)
    reader.feed_data(handover.received)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, handover.sock)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
