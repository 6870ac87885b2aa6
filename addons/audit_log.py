"""Audit events to a JSON lines file and to observers. A slow or dead sink never delays a decision (spec A8)."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from codex_network_proxy.policy.audit import PolicyDecisionEvent

from .log_file import RotatingLogFile

logger = logging.getLogger("codex_network_proxy")

QUEUE_LIMIT = 10_000
BATCH_LIMIT = 1_000
BATCH_DELAY = 0.05
RETRY_DELAY = 1.0
CLOSE_LIMIT = 1.0
REPORT_INTERVAL = 10.0

AuditObserver = Callable[[PolicyDecisionEvent], None]
Monotonic = Callable[[], float]


class LogFile(Protocol):
    """Where the lines go. Called by one thread only; it may be slow and it may fail."""

    def open(self) -> None:
        """Gets ready. Raises `OSError`."""
        ...

    def append(self, lines: bytes) -> int:
        """Appends whole lines; answers how many bytes of whole lines went in. Raises `OSError`."""
        ...

    def close(self) -> None: ...


class Seldom:
    """Says yes at most once per interval, so that a lasting fault does not fill the log."""

    def __init__(self, monotonic: Monotonic, interval: float = REPORT_INTERVAL) -> None:
        self._monotonic = monotonic
        self._interval = interval
        self._next = float("-inf")

    def __call__(self) -> bool:
        now = self._monotonic()
        if now < self._next:
            return False
        self._next = now + self._interval
        return True


class AuditLog:
    """Takes events without waiting; one thread writes them in batches, at most about 50 ms later.

    When the file cannot be written, up to `queue_limit` events wait for it; those beyond are lost and counted, and
    the log says so at most once in 10 s. `emit` belongs to one thread, the event loop's.
    """

    def __init__(
        self,
        path: Path,
        *,
        file: LogFile | None = None,
        queue_limit: int = QUEUE_LIMIT,
        batch_delay: float = BATCH_DELAY,
        retry_delay: float = RETRY_DELAY,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        self._path = path
        self._file = file or RotatingLogFile(path)
        self._queue: deque[str] = deque()
        self._queue_limit = queue_limit
        self._batch = b""
        self._batch_delay = batch_delay
        self._retry_delay = retry_delay
        self._dropped = 0
        self._dropped_told = 0
        self._failure_told = False
        self._tell_failure = Seldom(monotonic)
        self._tell_observer_failure = Seldom(monotonic)
        self._observers: tuple[AuditObserver, ...] = ()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="codex-audit-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Events that were lost so far."""
        return self._dropped

    def add_observer(self, observer: AuditObserver) -> None:
        """Calls `observer` with each event, at once. What it raises is logged and goes no further."""
        self._observers = (*self._observers, observer)

    def emit(self, event: PolicyDecisionEvent) -> None:
        """Takes the event without waiting. Never raises."""
        try:
            self._enqueue(event.json_line())
        except Exception:
            self._dropped += 1
            logger.exception("an audit event could not be written down")
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:
                if self._tell_observer_failure():
                    logger.error("an audit observer failed (%s)", type(error).__name__)

    def close(self) -> None:
        """Writes what waits, for at most 1 s, and closes the file. Events that come later are lost."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_LIMIT)
        lost = len(self._queue) + self._batch.count(b"\n")
        self._dropped += lost
        if lost or self._dropped > self._dropped_told:
            logger.warning("audit log %s closed; %d events were lost in all", self._path, self._dropped)

    def _enqueue(self, line: str) -> None:
        if len(self._queue) >= self._queue_limit or self._closing.is_set():
            self._dropped += 1
            return
        self._queue.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        self._open()
        closing = False
        while not closing:
            self._wake.wait()
            # Events come in bursts: one write for many of them, and the loop is not interrupted for each.
            closing = self._closing.wait(self._batch_delay)
            self._wake.clear()
            if not self._write_all() and not closing:
                self._closing.wait(self._retry_delay)
                self._wake.set()
        self._file.close()

    def _open(self) -> None:
        """An unwritable path is worth a word at the start, before the first event needs it."""
        try:
            self._file.open()
        except Exception as error:
            self._failed(error)

    def _write_all(self) -> bool:
        while self._batch or self._take():
            try:
                written = self._file.append(self._batch)
            except Exception as error:  # whatever a sink raises, the thread must live on
                self._failed(error)
                return False
            self._batch = self._batch[written:]
            if not written:
                self._failed(OSError("nothing was written"))
                return False
        self._succeeded()
        return True

    def _take(self) -> bool:
        lines: list[str] = []
        while self._queue and len(lines) < BATCH_LIMIT:
            lines.append(self._queue.popleft())
        self._batch = "".join(f"{line}\n" for line in lines).encode("ascii")
        return bool(lines)

    def _failed(self, error: Exception) -> None:
        if self._tell_failure():
            self._failure_told = True
            self._dropped_told = self._dropped
            logger.warning(
                "audit log %s cannot be written: %s; decisions go on, %d events lost so far",
                self._path,
                getattr(error, "strerror", None) or error,
                self._dropped_told,
            )

    def _succeeded(self) -> None:
        dropped = self._dropped
        if self._failure_told:
            self._failure_told = False
            self._dropped_told = dropped
            logger.warning("audit log %s is written again; %d events were lost", self._path, dropped)
        elif dropped > self._dropped_told and not self._closing.is_set() and self._tell_failure():
            self._dropped_told = dropped
            logger.warning("audit log %s falls behind; %d events lost so far", self._path, dropped)
