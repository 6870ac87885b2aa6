"""The engine that all proxies of an embedding program share: one per process, since it keeps its state in globals."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from mitmproxy import options

from .bundle import build_shared
from .contained_logs import log_unhandled
from .engine import InProcessEngine
from .master import EngineMaster
from .tenant import Tenant


class SharedMaster:
    """A running engine without listeners."""

    def __init__(self, master: EngineMaster, task: asyncio.Task[None]) -> None:
        self._master = master
        self._task = task

    def for_tenant(self, tenant: Tenant) -> InProcessEngine:
        """The engine for the clients of one proxy."""
        return InProcessEngine(self._master, tenant)

    async def stop(self, limit: float) -> None:
        """Ends the engine; what has not ended after `limit` seconds is cut."""
        self._master.should_exit.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._task


class _Engine(EngineMaster):
    def _asyncio_exception_handler(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # The loop is not the engine's alone.
        log_unhandled(loop, context)


async def start() -> SharedMaster:
    """Starts the engine in the running loop. Raises `RuntimeError` when it does not start.

    Unlike the command it leaves alone what belongs to the process: environment, collector and signals.
    """
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    opts = options.Options()
    master = _Engine(opts, build_shared(ready.set))
    # Nothing is read from or written to a directory of the engine's own.
    opts.update(server=False, mode=[], confdir=os.devnull)
    task, started = loop.create_task(master.run()), loop.create_task(ready.wait())
    await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED)
    if not ready.is_set():
        started.cancel()
        await task
        raise RuntimeError("the engine did not start")
    return SharedMaster(master, task)
