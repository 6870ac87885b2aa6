"""The engine in this process: takes a client connection over from the door and runs it as if it had accepted it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.layers import modes

from codex_network_proxy.policy.decision import Allowed

from .connection import PolicedConnection
from .door_tunnels import holds
from .handover import HandOver

logger = logging.getLogger("codex_network_proxy")

READ_LIMIT = 64 * 1024
"""Bytes a stream reader holds before the client is made to wait."""


class InProcessEngine:
    """Implements `handover.Engine` with a plain call. One per master."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._mode = mode_specs.ProxyMode.parse("regular")
        self._tasks: dict[asyncio.Task[None], PolicedConnection] = {}

    def take(self, handover: HandOver) -> None:
        """Serves the connection in a task of its own; see `handover.Engine`."""
        task = asyncio.get_running_loop().create_task(self._serve(handover))
        task.add_done_callback(self._finished)

    def close(self) -> None:
        """Cuts every connection that is being served."""
        for task, handler in list(self._tasks.items()):
            _cut(task, handler)

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> int:
        """After a change of the policy: cuts each connection that does something it no longer allows; how many."""
        doomed = [
            (task, handler)
            for task, handler in self._tasks.items()
            if not all(holds(still_allowed, verdict) for verdict in handler.verdicts())
        ]
        for task, handler in doomed:
            _cut(task, handler)
        return len(doomed)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            logger.error("an engine connection failed (%s)", type(error).__name__)

    async def _serve(self, handover: HandOver) -> None:
        try:
            try:
                reader, writer = await _streams(handover)
            except BaseException:
                handover.sock.close()
                raise
            # From here on the socket is the transport's: closing it behind its back would hit whoever gets the number.
            await self._run(handover, reader, writer)
        finally:
            handover.done()

    async def _run(self, handover: HandOver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = PolicedConnection(self._master, reader, writer, self._master.options, self._mode)
        handler.tunnel = handover.verdict
        handler.layer = modes.HttpProxy(handler.layer.context)
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


def _cut(task: asyncio.Task[None], handler: PolicedConnection) -> None:
    """Ends a connection as an idle one is ended, with its origins, but without waiting for bytes to be taken."""
    client = handler.transports.get(handler.client)
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
