"""The way out of the proxy's thread: functions of the embedding program run in the loop it started the proxy from.

A program without a loop gets one for them, in a thread of their own: a function that blocks then delays only the
functions of the same proxy, never a connection.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from .contained_logs import log_unhandled

logger = logging.getLogger("codex_network_proxy")

NAME = "codex-network-proxy-callbacks"


class TriedToExit(Exception):
    """A function raised what ends a program. In the proxy's thread it would end every proxy of the process."""


class Embedder:
    """Knows where the functions of one embedding program belong; see `begin`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_over = False

    def begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """From now on functions run in `loop`; in a thread of their own without one."""
        self._loop = loop or self._own_loop()

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(log_unhandled)

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                while not self._is_over:
                    # One function that wants to exit must not end the others.
                    with suppress(SystemExit, KeyboardInterrupt):
                        runner.get_loop().run_forever()

        self._thread = threading.Thread(target=run, name=NAME, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            loop.close()
            raise
        return loop

    def end(self) -> threading.Thread | None:
        """Starts to end the thread, when there is one, and answers with it."""
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop, self._loop)
        return self._thread

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_over = True
        loop.stop()

    def outside[Argument](self, function: Callable[[Argument], object]) -> Callable[[Argument], Awaitable[Any]]:
        """The program's function as one for the proxy's own loop: it runs outside, and its answer comes back.

        The function may be async or plain. Raises what it raises, but `TriedToExit` for a `SystemExit` and its like,
        and `RuntimeError` when its loop is closed.
        """

        async def run(argument: Argument) -> object:
            return await self._call(function, argument)

        return run

    async def _call[Argument](self, function: Callable[[Argument], object], argument: Argument) -> object:
        if self._loop is None:
            raise RuntimeError("the proxy does not run")
        call = _finished(function, argument)
        try:
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
        except RuntimeError:
            call.close()
            raise
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if not self._loop.is_closed():
                future.cancel()
            elif not future.done():
                logger.warning("the event loop of a decider or observer was closed while it had still to answer")
            raise
        except (SystemExit, KeyboardInterrupt) as error:
            raise TriedToExit(type(error).__name__) from None


async def _finished[Argument](function: Callable[[Argument], object], argument: Argument) -> object:
    result = function(argument)
    return await result if inspect.isawaitable(result) else result
