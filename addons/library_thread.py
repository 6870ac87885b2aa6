"""The one thread in which all proxies of an embedding program run, apart from the program's own event loops."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from .contained_logs import log_unhandled
from .shared_engine import SharedEngine

logger = logging.getLogger("codex_network_proxy")

NAME = "codex-network-proxy"

# Both kinds of lock may be taken again by the one who holds them: a proxy that is collected at that moment ends itself.
_lock = threading.RLock()
_current: LibraryThread | None = None
_last: threading.Thread | None = None


class LibraryThread:
    """An event loop in a daemon thread. It lasts from the first `enter` to the last `leave`; `ended` says when it did.

    It installs no signal handler and survives no fork.
    """

    def __init__(self, predecessor: threading.Thread | None) -> None:
        self.engine = SharedEngine()
        self.users = 0
        self.ended: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(log_unhandled)
        self._stop = asyncio.Event()
        self._pid = os.getpid()
        self._calls_lock = threading.RLock()
        self._calls: set[Future[Any]] = set()
        # A daemon: a program that forgets to shut a proxy down can end all the same.
        self.thread = threading.Thread(target=self._run, args=(predecessor,), name=NAME, daemon=True)
        try:
            self.thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    @property
    def is_here(self) -> bool:
        """Whether this is the thread's process, and no child of it after a fork."""
        return os.getpid() == self._pid

    def submit[Result](self, start: Callable[[], Coroutine[Any, Any, Result]]) -> Future[Result]:
        """Runs a coroutine in the thread's loop. Cancelling the future cancels it.

        Raises `RuntimeError` when the thread has ended, as it has in a child after a fork.
        """
        if not self.is_here:
            raise RuntimeError("a proxy does not survive a fork; build another one in the child")
        call = _started(start)
        with self._calls_lock:
            try:
                future: Future[Result] = asyncio.run_coroutine_threadsafe(call, self._loop)
            except RuntimeError:
                call.close()
                raise RuntimeError("the proxy's thread has ended") from None
            self._calls.add(future)
        future.add_done_callback(self._forget)
        return future

    def call[Result](self, function: Callable[[], Result]) -> Result:
        """Runs a function in the thread, waits for it, and answers or raises what it does."""
        if threading.current_thread() is self.thread:
            # Log handlers of the program are called here, too.
            return function()

        async def run() -> Result:
            return function()

        return self.submit(run).result()

    def end(self) -> None:
        """The last user has left."""
        self._loop.call_soon_threadsafe(self._stop.set)

    def _forget(self, future: Future[Any]) -> None:
        with self._calls_lock:
            self._calls.discard(future)

    def _run(self, predecessor: threading.Thread | None) -> None:
        if predecessor is not None:
            # Its engine must be gone: there can be only one in a process.
            predecessor.join()
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                self._serve_in(runner.get_loop())
        finally:
            with self._calls_lock:
                left = list(self._calls)
            for future in left:
                future.cancel()
            self.ended.set_result(None)

    def _serve_in(self, loop: asyncio.AbstractEventLoop) -> None:
        serving = loop.create_task(self._serve())
        while not serving.done():
            try:
                loop.run_until_complete(serving)
            except BaseException as error:
                # It was raised by one callback, which is over with it; the loop goes on with the next one.
                logger.error("an internal error in the proxy's thread (%s)", type(error).__name__)

    async def _serve(self) -> None:
        await self._stop.wait()
        await self.engine.stop()


async def _started[Result](start: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    return await start()


def enter() -> LibraryThread:
    """The thread, started when nobody used it. Each call needs its `leave`. Raises `RuntimeError`."""
    global _current, _last
    with _lock:
        if _current is None or not _current.is_here:
            predecessor = _last if _last is not None and _last.is_alive() else None
            _current = LibraryThread(predecessor)
            _last = _current.thread
        _current.users += 1
        return _current


def leave(thread: LibraryThread) -> Future[None]:
    """The end of a use. Done once the thread has ended when this was its last user, else at once."""
    global _current
    with _lock:
        thread.users -= 1
        if thread.users:
            others: Future[None] = Future()
            others.set_result(None)
            return others
        if _current is thread:
            _current = None
    thread.end()
    return thread.ended
