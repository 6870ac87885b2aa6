"""All places that audit events go to, behind one face (spec A8)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from codex_network_proxy.policy.audit import PolicyDecisionEvent

CLOSE_LIMIT = 1.0
"""Seconds that all sinks together get to write what they still hold."""


class RunningSink(Protocol):
    """A sink with a queue of its own. Called from one thread, the event loop's."""

    @property
    def dropped(self) -> int:
        """Events that were lost so far."""
        ...

    @property
    def working(self) -> bool:
        """Whether the next event would be taken, and nothing is known to be wrong."""
        ...

    def emit(self, event: PolicyDecisionEvent) -> None:
        """Takes the event without waiting. Never raises."""
        ...

    def close_soon(self) -> bool:
        """Starts to write what waits; events that come later are lost. Whether this was the first call."""
        ...

    def wait_closed(self, seconds: float) -> None:
        """After `close_soon`: waits for the rest, and logs what was lost."""
        ...


class AuditSinks:
    """Gives each event to every sink. `required` are those without which nothing may be decided."""

    def __init__(self, sinks: Sequence[RunningSink], required: Sequence[RunningSink] = ()) -> None:
        self._sinks = tuple(sinks)
        self._required = tuple(required)

    @property
    def dropped(self) -> int:
        """Events that were lost so far, by all sinks together."""
        return sum(sink.dropped for sink in self._sinks)

    def recording(self) -> bool:
        """Whether every required sink works."""
        return all(sink.working for sink in self._required)

    def emit(self, event: PolicyDecisionEvent) -> None:
        """Hands the event on without waiting."""
        for sink in self._sinks:
            sink.emit(event)

    def close(self) -> None:
        """Writes out what waits, for at most 1 s. Harmless when called again."""
        closing = [sink for sink in self._sinks if sink.close_soon()]
        deadline = time.monotonic() + CLOSE_LIMIT
        for sink in closing:
            sink.wait_closed(max(0.0, deadline - time.monotonic()))
