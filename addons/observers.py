"""Functions of the embedding application that are told of events. A slow one delays nothing, a broken one harms nobody.

An async function is awaited in the loop of the proxy, a plain one is called in a thread of its own; in both cases for
one item after the other, in their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, cast

from .audit_sinks import RunningSink
from .seldom import Monotonic, Seldom
from .sink_thread import Lost, Pace, SinkThread, Words

logger = logging.getLogger("codex_network_proxy")

PACE = Pace(queue=10_000, batch=1, delay=0.0, retry=0.0)

Observer = Callable[[Any], object]
"""A plain or an async function of one item. What it returns is ignored."""


def told(subject: str, observer: Observer, pace: Pace = PACE) -> RunningSink[Any]:
    """The observer behind a bounded queue. `subject` is how the log speaks of it."""
    if is_async(observer):
        return LoopObserver(subject, cast(Callable[[Any], Coroutine[Any, Any, object]], observer), pace.queue)
    return ThreadObserver(subject, observer, pace)


def is_async(function: Callable[..., object]) -> bool:
    """Whether it has to be awaited: an `async def`, or an object whose `__call__` is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - not whether it can be called, but how


async def finish(sinks: Iterable[RunningSink[Any]], limit: float) -> None:
    """Before the loop ends: async observers are told of what waits for them, for at most `limit` seconds.

    Call it in that loop. Other sinks are left alone.
    """
    observers = [sink for sink in sinks if isinstance(sink, LoopObserver) and sink.close_soon()]
    if observers:
        await asyncio.wait([asyncio.ensure_future(each.delivered()) for each in observers], timeout=limit)
    for each in observers:
        each.wait_closed(0)


class ThreadObserver[Item]:
    """Calls a plain function in a thread of its own."""

    def __init__(self, subject: str, function: Callable[[Item], object], pace: Pace = PACE) -> None:
        self._thread: SinkThread[Item] = SinkThread(_Calls(function), Words(subject, "fails", "works again"), pace)
        self.emit = self._thread.put
        self.close_soon = self._thread.close_soon
        self.wait_closed = self._thread.wait_closed

    @property
    def dropped(self) -> int:
        return self._thread.dropped

    @property
    def working(self) -> bool:
        return self._thread.working


class _Calls[Item]:
    """A function as a sink."""

    def __init__(self, function: Callable[[Item], object]) -> None:
        self._function = function

    def open(self) -> None:
        """It is ready at once."""

    def write(self, items: Sequence[Item]) -> int:
        for item in items:
            try:
                result = self._function(item)
            except (Exception, SystemExit, KeyboardInterrupt) as error:
                # The text of the error may hold anything: only its kind is logged.
                raise Lost(type(error).__name__) from error
            if inspect.iscoroutine(result):
                result.close()
                raise Lost("it returned a coroutine; write it with `async def`")
        return len(items)

    def close(self) -> None:
        """Nothing to end."""


class LoopObserver[Item]:
    """Awaits an async function in the running loop. Belongs to the thread of that loop."""

    def __init__(
        self,
        subject: str,
        function: Callable[[Item], Awaitable[object]],
        limit: int = PACE.queue,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        self._subject = subject
        self._function = function
        self._limit = limit
        self._queue: deque[Item] = deque()
        self._task: asyncio.Task[None] | None = None
        self._dropped = 0
        self._closed = False
        self._may_tell = Seldom(monotonic)

    @property
    def dropped(self) -> int:
        return self._dropped

    @property
    def working(self) -> bool:
        return not self._closed and len(self._queue) < self._limit

    def emit(self, item: Item) -> None:
        """Takes the item without waiting. Never raises."""
        if not self.working:
            self._lose("falls behind")
            return
        try:
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._tell_all())
        except RuntimeError:
            self._lose("has no loop to run in")
        else:
            self._queue.append(item)

    async def delivered(self) -> None:
        """Returns when the function has been told of everything so far."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    def close_soon(self) -> bool:
        first, self._closed = not self._closed, True
        return first

    def wait_closed(self, seconds: float) -> None:
        """Does not wait: the loop that would have to go on is the caller's."""
        lost = len(self._queue)
        self._queue.clear()
        self._dropped += lost
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        if lost:
            logger.warning("%s closed; %d events were lost in all", self._subject, self._dropped)

    async def _tell_all(self) -> None:
        try:
            while self._queue:
                await self._tell(self._queue.popleft())
        finally:
            self._task = None

    async def _tell(self, item: Item) -> None:
        try:
            await self._function(item)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._lose("fails: CancelledError")
        except Exception as error:
            # The text of the error may hold anything: only its kind is logged.
            self._lose(f"fails: {type(error).__name__}")

    def _lose(self, why: str) -> None:
        self._dropped += 1
        if self._may_tell():
            logger.warning("%s %s; decisions go on, %d events lost so far", self._subject, why, self._dropped)
