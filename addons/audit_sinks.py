"""All places that audit events go to, behind one face (spec A8)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.metrics import DecisionCounters

CLOSE_LIMIT = 1.0
"""Seconds that all sinks together get to write what they still hold."""


class RunningSink[Item](Protocol):
    """A sink with a queue of its own. Called from one thread, the event loop's."""

    @property
    def dropped(self) -> int:
        """Items that were lost so far."""
        ...

    @property
    def working(self) -> bool:
        """Whether the next item would be taken, and nothing is known to be wrong."""
        ...

    def emit(self, item: Item, /) -> None:
        """Takes the item without waiting. Never raises."""
        ...

    def close_soon(self) -> bool:
        """Starts to write what waits; items that come later are lost. Whether this was the first call."""
        ...

    def wait_closed(self, seconds: float) -> object:
        """After `close_soon`: waits for the rest, and logs what was lost."""
        ...


EventSink = RunningSink[PolicyDecisionEvent]


class AuditSinks:
    """Gives each event to every sink. `required` are those without which nothing may be decided."""

    def __init__(
        self,
        sinks: Sequence[EventSink],
        required: Sequence[EventSink] = (),
    ) -> None:
        self.sinks = tuple(sinks)
        self.counters = DecisionCounters()
        self._required = tuple(required)

    @property
    def dropped(self) -> int:
        """Events that were lost so far, by all sinks together."""
        return sum(sink.dropped for sink in self.sinks)

    @property
    def recording(self) -> Callable[[], bool] | None:
        """Tells whether every required sink works; `None` when none is required."""
        return self._all_working if self._required else None

    def _all_working(self) -> bool:
        return all(sink.working for sink in self._required)

    def emit(self, event: PolicyDecisionEvent) -> None:
        """Counts the event, and hands it on without waiting."""
        self.counters.add(event)
        for sink in self.sinks:
            sink.emit(event)

    def close(self) -> None:
        """Writes out what waits, for at most 1 s. Harmless when called again."""
        close_all(self.sinks)


def close_all(sinks: Iterable[RunningSink[Any]]) -> None:
    """Lets all of them write out what they still hold at the same time, for at most 1 s."""
    closing = [sink for sink in sinks if sink.close_soon()]
    deadline = time.monotonic() + CLOSE_LIMIT
    for sink in closing:
        sink.wait_closed(max(0.0, deadline - time.monotonic()))
