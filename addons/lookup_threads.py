"""Threads for calls that may hang: one that hangs delays no other, and none keeps the process from ending."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

MOST_THREADS = 64
QUEUE_LIMIT = 1_024
IDLE_SECONDS = 30.0


class LookupThreads:
    """Runs jobs in daemon threads that come and go with the need. A job must not raise.

    Beyond `most` threads, up to `queue_limit` jobs wait for one.
    """

    def __init__(
        self, most: int = MOST_THREADS, queue_limit: int = QUEUE_LIMIT, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._most = most
        self._queue_limit = queue_limit
        self._idle_seconds = idle_seconds
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._closed = False

    @property
    def count(self) -> int:
        """How many threads there are, idle ones included."""
        return self._threads

    def submit(self, job: Callable[[], None]) -> bool:
        """Takes the job without waiting, or answers no: everything hangs, or the system gives no more threads."""
        with self._changed:
            if len(self._jobs) >= self._idle and self._threads < self._most:
                self._grow()
            if self._closed or not self._threads or len(self._jobs) - self._idle >= self._queue_limit:
                return False
            self._jobs.append(job)
            self._changed.notify()
            return True

    def close(self) -> None:
        """Sends idle threads home and forgets waiting jobs. Threads that hang end with the process."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()

    def _grow(self) -> None:
        thread = threading.Thread(target=self._work, name="codex-lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more; the threads there are may still do
            return
        self._threads += 1
        self._idle += 1

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job()
            with self._changed:
                self._idle += 1

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed, self._idle_seconds)
            self._idle -= 1
            if self._jobs:
                return self._jobs.popleft()
            self._threads -= 1
            return None
