"""A lasting fault is told now and then, not each time."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL = 10.0

Monotonic = Callable[[], float]


class Seldom:
    """Says yes at most once per `interval` seconds, so that a lasting fault does not fill the log."""

    def __init__(self, monotonic: Monotonic = time.monotonic, interval: float = INTERVAL) -> None:
        self._monotonic = monotonic
        self._interval = interval
        self._next = float("-inf")

    def __call__(self) -> bool:
        now = self._monotonic()
        if now < self._next:
            return False
        self._next = now + self._interval
        return True
