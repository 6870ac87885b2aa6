"""Loads the engine for the proxies of an embedding program when the first connection needs it, once for all of them."""

from __future__ import annotations

import asyncio
import warnings
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from .helper_thread import done_in_thread
from .late_engine import ClosableEngine, LateEngine
from .tenant import Tenant

if TYPE_CHECKING:
    from .shared_master import SharedMaster

STOP_LIMIT = 1.5
"""Seconds that the engine gets to end by itself."""


class SharedEngine:
    """Belongs to one event loop. Use it from there only."""

    def __init__(self) -> None:
        self._starting: asyncio.Task[SharedMaster] | None = None

    def for_tenant(self, tenant: Tenant) -> LateEngine:
        """The engine for the clients of one proxy."""
        return LateEngine(tenant.authority, partial(self._serve, tenant))

    async def _serve(self, tenant: Tenant) -> ClosableEngine:
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(_start())
        starting = self._starting
        try:
            # Shielded: a proxy that ends meanwhile must not take the engine away from the others.
            master = await asyncio.shield(starting)
        except Exception:
            if self._starting is starting:
                self._starting = None
            raise
        return master.for_tenant(tenant)

    async def stop(self) -> None:
        """Ends the engine, when there is one."""
        starting, self._starting = self._starting, None
        if starting is None:
            return
        await asyncio.wait((starting,))
        if not starting.cancelled() and starting.exception() is None:
            await starting.result().stop(STOP_LIMIT)


async def _start() -> SharedMaster:
    # The modules of the engine take some 0.4 s; in a thread of their own nobody else waits for them.
    await done_in_thread(_load)
    from .shared_master import start

    return await start()


def _load() -> None:
    name = f"{__package__}.shared_master"
    try:
        import_module(name)
    except Warning:
        # The program makes warnings errors. What other packages ask of each other is not its concern, and only
        # now, for the filters are the whole process's, is it worth to set them aside for a moment.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(name)
