"""An engine that is loaded when its first client comes: loading takes longer than everything else of a start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from codex_network_proxy.policy.decision import ClientScope

from .authority import Authority
from .door_tunnels import holds
from .handover import Engine, HandOver

logger = logging.getLogger("codex_network_proxy")


class ClosableEngine(Engine, Protocol):
    """An engine with its clients."""

    def recheck(self) -> int: ...

    def close_scope(self, scope: ClientScope) -> None: ...

    def close(self) -> None: ...

    async def wait_closed(self) -> None: ...


class LateEngine:
    """Takes connections at once and holds them until the engine that `load` brings can serve them.

    When it cannot be loaded, those who wait are closed, and the next client is the reason for another try.
    """

    def __init__(self, authority: Authority, load: Callable[[], Awaitable[ClosableEngine]]) -> None:
        self._authority = authority
        self._load = load
        self._engine: ClosableEngine | None = None
        self._waiting: list[HandOver] = []
        self._loading: asyncio.Task[None] | None = None

    def take(self, handover: HandOver) -> None:
        """See `handover.Engine`."""
        if self._engine is not None:
            self._engine.take(handover)
            return
        self._waiting.append(handover)
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        try:
            self._engine = await self._load()
        except Exception as error:
            logger.error("the engine could not be loaded (%s); connections that need it are closed", error)
            self._close_waiting()
        finally:
            self._loading = None
        if self._engine is not None:
            waiting, self._waiting = self._waiting, []
            for handover in waiting:
                self._engine.take(handover)

    def recheck(self) -> int:
        """Cuts what the policy in force no longer allows; how many connections."""
        allowed = self._authority.still_allows
        doomed = [one for one in self._waiting if one.verdict and not holds(allowed, one.verdict)]
        for handover in doomed:
            self._waiting.remove(handover)
            _close(handover)
        return len(doomed) + (self._engine.recheck() if self._engine else 0)

    def close_scope(self, scope: ClientScope) -> None:
        """Cuts the connections of one scope."""
        for handover in [each for each in self._waiting if each.scope is scope]:
            self._waiting.remove(handover)
            _close(handover)
        if self._engine is not None:
            self._engine.close_scope(scope)

    def close(self) -> None:
        """Cuts every connection that was taken."""
        self._close_waiting()
        if self._loading is not None:
            self._loading.cancel()
        if self._engine is not None:
            self._engine.close()

    async def wait_closed(self) -> None:
        """Returns when every connection has ended."""
        if self._engine is not None:
            await self._engine.wait_closed()

    def _close_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for handover in waiting:
            _close(handover)


def _close(handover: HandOver) -> None:
    handover.sock.close()
    handover.done()
