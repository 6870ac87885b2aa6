"""One proxy of an embedding program from its making to its end, in its own thread and seen from all others."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from codex_network_proxy.policy.decision import ClientScope

from . import library_thread
from .embedder import Embedder
from .helper_thread import done_in_thread, in_thread
from .late_engine import LateEngine
from .library_thread import LibraryThread
from .reload import cut_after_changes, watch_file
from .runtime import Runtime
from .scope_listeners import ScopeListeners, close_scope, open_scope

logger = logging.getLogger("codex_network_proxy")

CLOSE_LIMIT = 1.5
"""Seconds that connections in the engine get to end once they were cut."""

REAP_LIMIT = 1.0
"""Seconds that a function of the embedding program which does not return gets at the end."""


class ProxyLife:
    """Made, run, over. Its methods may be called from any thread; the proxy itself lives in the library's.

    `ended` is done when everything has ended but the threads in `reap`. A proxy that nobody holds any more while it
    runs is ended in the background, with a `ResourceWarning`.
    """

    def __init__(self, runtime: Runtime, embedder: Embedder) -> None:
        self.runtime = runtime
        self.ended: Future[None] = Future()
        self._embedder = embedder
        self._lock = threading.RLock()
        self._running: _Running | None = None
        self._started = False
        self._ending = False
        self._last_threads: list[threading.Thread] = []

    def start(self, loop: asyncio.AbstractEventLoop | None) -> Future[None]:
        """Binds the listeners. The functions of the embedding program will run in `loop`.

        The future raises `OSError` when an address cannot be had; then the proxy is over. With `enabled = false`
        nothing is bound and the proxy is over at once (spec B1.12). Raises `RuntimeError` when called again.
        """
        with self._lock:
            if self._started or self._ending:
                raise RuntimeError("a proxy runs once; build another one")
            self._started = True
            self.runtime.warn()
            if not self.runtime.settings.enabled:
                logger.warning("network.enabled is false; skipping proxy listeners")
                self.end()
                return _done()
            self._embedder.begin(loop)
            self._running = running = _Running(library_thread.enter(), self.runtime)
            return running.thread.submit(running.start)

    def end(self) -> Future[None]:
        """Starts to end the proxy; harmless when called again. Done when `ended` is.

        In a child after a fork there is nothing to end: the proxy is the parent's.
        """
        with self._lock:
            if not self._ending:
                self._ending = True
                _end(self._running, self.runtime, self._embedder, self._over)
        return self.ended

    def reap(self) -> None:
        """After the end: leaves no thread of ours behind, but one in which a function of the program hangs."""
        for thread in self._last_threads:
            if thread is not threading.current_thread():
                thread.join(REAP_LIMIT)

    def call[Result](self, function: Callable[[], Result]) -> Result:
        """Runs a function where the proxy lives, and waits for it."""
        with self._lock:
            running = self._running
            if running is None:
                return function()
        return running.thread.call(function)

    def submit[Result](self, start: Callable[[], Coroutine[Any, Any, Result]]) -> Future[Result]:
        """Runs a coroutine where the proxy lives. Raises `RuntimeError` when it does not run."""
        return self._present().thread.submit(start)

    def open_scope(self, scope: ClientScope) -> Future[ScopeListeners]:
        """Listeners of their own for clients of one kind. Raises `RuntimeError` when the proxy does not run."""
        running = self._present()
        return running.thread.submit(lambda: running.open_scope(scope))

    def close_scope(self, opened: ScopeListeners) -> Future[None]:
        """Closes the listeners and their connections. Raises `RuntimeError` when the proxy does not run."""
        running = self._present()
        return running.thread.submit(lambda: running.close_scope(opened))

    def _present(self) -> _Running:
        with self._lock:
            running = self._running
        if running is None or self._ending:
            raise RuntimeError("the proxy does not run")
        return running

    def _over(self, threads: list[threading.Thread]) -> None:
        with self._lock:
            self._running = None
            self._last_threads = threads
        self.ended.set_result(None)

    def __del__(self) -> None:
        if self._ending or sys.is_finalizing():
            return
        running, address = self._running, self.runtime.http_address
        # Ended first: a warning may be an error.
        _end(running, self.runtime, self._embedder, lambda _: None)
        if running and running.thread.is_here:
            warnings.warn(f"a proxy on {address} was never shut down", ResourceWarning, stacklevel=2)


class _Running:
    """The part that lives in the library's thread. Knows nobody outside."""

    def __init__(self, thread: LibraryThread, runtime: Runtime) -> None:
        self.thread = thread
        self._runtime = runtime
        self._engine: LateEngine | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._engine = self.thread.engine.for_tenant(self._runtime)
        self._runtime.open_door(self._engine)
        cut_after_changes(self._runtime, self._engine)
        self._watch = asyncio.get_running_loop().create_task(watch_file(self._runtime))
        for line in self._runtime.listeners():
            logger.info("%s", line)

    async def open_scope(self, scope: ClientScope) -> ScopeListeners:
        return open_scope(self._runtime, scope)

    async def close_scope(self, opened: ScopeListeners) -> None:
        close_scope(self._runtime, opened)
        if self._engine:
            self._engine.close_scope(opened.scope)

    async def stop(self) -> None:
        if self._watch:
            self._watch.cancel()
        self._runtime.stop()
        if self._engine:
            self._engine.close()
            await asyncio.wait((asyncio.ensure_future(self._engine.wait_closed()),), timeout=CLOSE_LIMIT)
        await self._runtime.finish()
        # Writing out the audit log may take a moment, which the other proxies do not have.
        await done_in_thread(self._runtime.close)


Over = Callable[[list[threading.Thread]], None]


def _end(running: _Running | None, runtime: Runtime, embedder: Embedder, over: Over) -> None:
    """Stops the proxy, and the thread when no other proxy is in it; `over` is told which threads still have to end.

    Where the thread is gone, as in a child after a fork, there is nothing to stop.
    """
    if running is None:
        closing = in_thread(runtime.close)
        closing.add_done_callback(lambda _: over(_threads(closing.thread, embedder.end())))
        return
    thread = running.thread

    def stopped(stopping: Future[None]) -> None:
        if not stopping.cancelled() and (error := stopping.exception()):
            logger.error("a proxy did not end well (%s)", type(error).__name__)
        library_thread.leave(thread).add_done_callback(left)

    def left(leaving: Future[None]) -> None:
        over(_threads(embedder.end(), thread.thread if leaving is thread.ended else None))

    try:
        stopping = thread.submit(running.stop)
    except RuntimeError:
        over([])
    else:
        stopping.add_done_callback(stopped)


def _threads(*threads: threading.Thread | None) -> list[threading.Thread]:
    return [thread for thread in threads if thread is not None]


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future
