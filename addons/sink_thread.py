"""A bounded queue, and the one thread that empties it into a sink that may be slow or dead (spec A8)."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .seldom import Monotonic, Seldom

logger = logging.getLogger("codex_network_proxy")


class Sink[Item](Protocol):
    """Where the items go. Called by one thread only; it may be slow and it may fail."""

    def open(self) -> None:
        """Gets ready, or tells that it cannot: before the first item, and while it fails. Raises whatever is wrong."""
        ...

    def write(self, items: Sequence[Item]) -> int:
        """How many of the items it took, from the first one on; the others are given again.

        Raises what kept it from taking any, and `Lost` when giving them again would not help.
        """
        ...

    def close(self) -> None: ...


class Lost(Exception):
    """The items are gone for good. The text says why, to the person who reads the log."""


@dataclass(frozen=True, slots=True)
class Words:
    """How the log speaks of a sink: `audit log x.jsonl` `cannot be written`, `is written again`.

    `meanwhile` says what a failure means for others.
    """

    subject: str
    failing: str
    again: str
    meanwhile: str = "decisions go on"


@dataclass(frozen=True, slots=True)
class Pace:
    """How many items wait at most, how many go in one batch; seconds until a batch goes, and between two tries."""

    queue: int = 10_000
    batch: int = 1_000
    delay: float = 0.05
    retry: float = 1.0


class SinkThread[Item]:
    """Takes items without waiting, and gives them to the sink in batches.

    While the sink fails, up to `pace.queue` items wait for it; those beyond are lost and counted, and the log says so
    at most once in 10 s. `put` belongs to one thread, the event loop's.
    """

    def __init__(
        self, sink: Sink[Item], words: Words, pace: Pace | None = None, *, monotonic: Monotonic = time.monotonic
    ) -> None:
        self._sink = sink
        self._words = words
        self._pace = pace or Pace()
        self._queue: deque[Item] = deque()
        self._batch: list[Item] = []
        self._not_taken = 0
        self._lost = 0
        self._lost_told = 0
        self._failing = True
        self._failure_told = False
        self._given_up = False
        self._may_tell = Seldom(monotonic)
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._tried = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"codex {words.subject}"[:60], daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Items that were lost so far."""
        return self._not_taken + self._lost

    @property
    def working(self) -> bool:
        """Whether the next item would be taken, and nothing is known to be wrong with the sink."""
        return not self._failing and len(self._queue) < self._pace.queue and not self._closing.is_set()

    def wait_tried(self, seconds: float) -> None:
        """Returns once the sink was opened, or could not be."""
        self._tried.wait(seconds)

    def put(self, item: Item) -> None:
        """Takes the item without waiting. Never raises."""
        if len(self._queue) >= self._pace.queue or self._closing.is_set():
            self._not_taken += 1
            return
        self._queue.append(item)
        if not self._wake.is_set():
            self._wake.set()

    def close_soon(self) -> bool:
        """Starts to write what waits; items that come later are lost. Whether this was the first call."""
        if self._closing.is_set():
            return False
        self._closing.set()
        self._wake.set()
        return True

    def wait_closed(self, seconds: float) -> bool:
        """After `close_soon`: waits for the rest to be written, and counts what was not. Whether the thread has ended.

        If not, it ends by itself as soon as the sink lets it.
        """
        self._thread.join(seconds)
        self._given_up = True
        waiting = len(self._queue) + len(self._batch)
        self._not_taken += waiting
        if waiting or self.dropped > self._lost_told:
            logger.warning("%s closed; %d events were lost in all", self._words.subject, self.dropped)
        return not self._thread.is_alive()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if not self._open():
            self._wake.set()
        self._tried.set()
        closing = False
        while not closing:
            self._wake.wait()
            # Items come in bursts: one write for many of them, and the loop is not interrupted for each.
            self._closing.wait(self._pace.delay)
            self._wake.clear()
            # Read after the clearing: a close that came just before it has nothing else to wake the thread with.
            closing = self._closing.is_set()
            if not self._empty() and not closing:
                self._closing.wait(self._pace.retry)
                self._wake.set()
        self._sink.close()

    def _open(self) -> bool:
        """Tells of a sink that cannot be used before the first item needs it."""
        try:
            self._sink.open()
        except Exception as error:  # whatever a sink raises, the thread must live on
            self._failed(error)
            return False
        self._failing = False
        return True

    def _empty(self) -> bool:
        """Whether nothing waits any more, and the sink works."""
        while not self._given_up and (self._batch or self._take()):
            if not self._write():
                return False
        return not self._failing or self._open_again()

    def _open_again(self) -> bool:
        opened = self._open()
        if opened:
            self._succeeded()
        return opened

    def _take(self) -> bool:
        while self._queue and len(self._batch) < self._pace.batch:
            self._batch.append(self._queue.popleft())
        return bool(self._batch)

    def _write(self) -> bool:
        try:
            taken = self._sink.write(self._batch)
        except Lost as error:
            self._lost += len(self._batch)
            self._batch.clear()
            self._tell(error)
            return True
        except Exception as error:
            self._failed(error)
            return False
        del self._batch[:taken]
        if not taken:
            self._failed(OSError("nothing was written"))
            return False
        self._succeeded()
        return True

    def _failed(self, error: Exception) -> None:
        self._failing = True
        self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._given_up and self._may_tell():
            self._failure_told = True
            self._lost_told = self.dropped
            why = getattr(error, "strerror", None) or error
            logger.warning(
                "%s %s: %s; %s, %d events lost so far",
                self._words.subject, self._words.failing, why, self._words.meanwhile, self._lost_told,
            )  # fmt: skip

    def _succeeded(self) -> None:
        self._failing = False
        dropped, subject = self.dropped, self._words.subject
        if self._given_up:
            return
        if self._failure_told:
            self._failure_told = False
            self._lost_told = dropped
            logger.warning("%s %s; %d events were lost", subject, self._words.again, dropped)
        elif dropped > self._lost_told and not self._closing.is_set() and self._may_tell():
            self._lost_told = dropped
            logger.warning("%s falls behind; %d events lost so far", subject, dropped)
