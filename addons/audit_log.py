"""Audit events to a JSON lines file. A slow or full disk never delays a decision (spec A8)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from codex_network_proxy.policy.audit import PolicyDecisionEvent

from .log_file import RotatingLogFile
from .seldom import Monotonic
from .sink_thread import Pace, SinkThread, Words

logger = logging.getLogger("codex_network_proxy")


class LogFile(Protocol):
    """Where the lines go. Called by one thread only; it may be slow and it may fail."""

    def open(self) -> None:
        """Gets ready. Raises `OSError`."""
        ...

    def append(self, lines: bytes) -> int:
        """Appends whole lines; answers how many bytes of whole lines went in. Raises `OSError`."""
        ...

    def close(self) -> None: ...


class AuditLog:
    """Takes events without waiting; one thread writes them in batches, at most about 50 ms later.

    When the file cannot be written, up to 10,000 events wait for it; those beyond are lost and counted.
    `emit` belongs to one thread, the event loop's.
    """

    def __init__(
        self,
        path: Path,
        *,
        file: LogFile | None = None,
        pace: Pace | None = None,
        monotonic: Monotonic = time.monotonic,
        required: bool = False,
    ) -> None:
        """`required`: whoever reads the log is told that nothing passes while the file cannot be written."""
        meanwhile = "every request is refused" if required else "decisions go on"
        words = Words(f"audit log {path}", "cannot be written", "is written again", meanwhile)
        self._lines = _Lines(file or RotatingLogFile(path))
        self._thread = SinkThread(self._lines, words, pace, monotonic=monotonic)
        self.wait_tried = self._thread.wait_tried
        self.close_soon = self._thread.close_soon
        self.wait_closed = self._thread.wait_closed

    @property
    def dropped(self) -> int:
        """Events that were lost so far."""
        return self._thread.dropped + self._lines.unwritable

    @property
    def working(self) -> bool:
        """Whether the next event would be taken, and the file could be written when it was last tried."""
        return self._thread.working

    def emit(self, event: PolicyDecisionEvent) -> None:
        """Takes the event without waiting. Never raises."""
        self._thread.put(event)


class _Lines:
    """Events as a sink, over a file that takes bytes. Many are spelled out in a row, off the event loop.

    `unwritable`: events that no line could be made of.
    """

    def __init__(self, file: LogFile) -> None:
        self.unwritable = 0
        self._file = file
        self.open = file.open
        self.close = file.close

    def write(self, items: Sequence[PolicyDecisionEvent]) -> int:
        lines = [self._line(event) for event in items]
        appended = self._file.append(b"".join(lines))
        return sum(end <= appended for end in accumulate(map(len, lines)))

    def _line(self, event: PolicyDecisionEvent) -> bytes:
        try:
            return f"{event.json_line()}\n".encode("ascii")
        except Exception:  # it must not hold up those after it
            self.unwritable += 1
            logger.exception("an audit event could not be written down")
            return b""
