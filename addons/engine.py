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
        for task in list(self._tasks):
            task.cancel()

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> int:
        """After a change of the policy: cuts each connection that does something it no longer allows; how many."""
        cut = 0
        for task, handler in list(self._tasks.items()):
            if not all(still_allowed(verdict) for verdict in handler.verdicts()):
                task.cancel()
                cut += 1
        return cut

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            logger.error("an engine connection failed (%s)", type(error).__name__)

    def _started(self, handler: PolicedConnection) -> None:
        if task := asyncio.current_task():
            self._tasks[task] = handler

    async def _serve(self, handover: HandOver) -> None:
        try:
            reader, writer = await _streams(handover)
            handler = PolicedConnection(self._master, reader, writer, self._master.options, self._mode)
            handler.tunnel = handover.verdict
            handler.layer = modes.HttpProxy(handler.layer.context)
            self._started(handler)
            proxyserver = cast(Proxyserver, self._master.addons.get("proxyserver"))
            with proxyserver.register_connection(handler.client.id, handler):
                await handler.handle_client()
        finally:
            handover.sock.close()
            handover.done()


async def _streams(handover: HandOver) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_LIMIT, loop=loop)
    reader.feed_data(handover.received)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, handover.sock)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
