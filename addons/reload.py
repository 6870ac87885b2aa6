"""What a changed configuration does to a proxy that runs: it is noticed, and what it forbids is cut (spec A1.6)."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from codex_network_proxy.policy.text import numbered

from .runtime import Runtime

logger = logging.getLogger("codex_network_proxy")

RELOAD_INTERVAL = 1.0
"""Seconds between two looks at the configuration file (spec A1.6)."""


class Recheckable(Protocol):
    def recheck(self) -> int:
        """Cuts what the policy in force no longer allows; how many connections."""
        ...


async def watch_file(runtime: Runtime) -> None:
    """Puts the file in force whenever it has changed. Runs until it is cancelled."""
    while True:
        await asyncio.sleep(RELOAD_INTERVAL)
        runtime.reload_if_changed()


def cut_after_changes(runtime: Runtime, engine: Recheckable) -> None:
    """From now on, whenever the policy changes, connections at the door and in the engine that it forbids are cut."""

    def changed() -> None:
        cut = engine.recheck()
        if runtime.door:
            cut += runtime.door.recheck(runtime.authority.still_allows)
        if cut:
            logger.warning("closed %s that the new policy does not allow", numbered(cut, "connection"))

    runtime.authority.on_policy(changed)
