"""Many equal time limits for the price of one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from itertools import takewhile


class Deadlines[Item: Hashable]:
    """Calls `expired(item)` for each item that is still here `seconds` after it was added.

    All limits are equally long, so the oldest entry is always the next one due, and adding or discarding is a
    dictionary operation.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, expired: Callable[[Item], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._expired = expired
        self._due: dict[Item, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    @property
    def oldest(self) -> Item | None:
        """The one that is due next."""
        return next(iter(self._due), None)

    def add(self, item: Item) -> None:
        """Starts the limit of `item`, anew when it was here already."""
        self._due.pop(item, None)
        due = self._due[item] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._fire)

    def discard(self, item: Item) -> None:
        self._due.pop(item, None)

    def close(self) -> None:
        """Forgets every item without calling anybody."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        overdue = list(takewhile(lambda entry: entry[1] <= now, self._due.items()))
        for item, due in overdue:
            if self._due.get(item) == due:
                del self._due[item]
                self._call(item)
        if self._due and self._timer is None:
            self._timer = self._loop.call_at(next(iter(self._due.values())), self._fire)

    def _call(self, item: Item) -> None:
        try:
            self._expired(item)
        except Exception as error:
            self._loop.call_exception_handler({"message": "a time limit could not be enforced", "exception": error})
