"""The end of a proxy inside a program of somebody else: waited for, or brought about (spec B9.1)."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from .proxy_life import ProxyLife


class NetworkProxyHandle:
    """A proxy that runs, as `NetworkProxy.run` gives it: wait for its end, or bring it about."""

    def __init__(self, life: ProxyLife) -> None:
        self._life = life

    @property
    def is_over(self) -> bool:
        """Whether everything has ended: listeners, connections and threads of the proxy."""
        return self._life.ended.done()

    async def wait(self) -> None:
        """Returns when the proxy has ended. Cancelling it leaves the proxy alone."""
        await outcome(self._life.ended)
        self._life.reap()

    async def shutdown(self) -> None:
        """Closes the listeners and every connection, and writes out the audit log. Harmless when called again.

        Takes up to three seconds when connections or logs are stuck. Cancelling it does not stop it.
        """
        await outcome(self._life.end())
        self._life.reap()

    def wait_sync(self, timeout: float | None = None) -> None:
        """As `wait`, for code without an event loop. Raises `TimeoutError` after `timeout` seconds."""
        self._life.ended.result(timeout)
        self._life.reap()

    def shutdown_sync(self) -> None:
        """As `shutdown`, for code without an event loop."""
        self._life.end().result()
        self._life.reap()


async def outcome[Result](future: Future[Result]) -> Result:
    """Waits without taking cancellation over: what was begun in the proxy's thread goes on."""
    return await asyncio.shield(asyncio.wrap_future(future))
