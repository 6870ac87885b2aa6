"""Events, and what the tests of audit sinks need to see what other threads do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.decision import (
    Decision,
    DecisionSource,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
)
from codex_network_proxy.policy.hosts import parse_endpoint

LIMIT = 20.0  # seconds a test waits for a thread before it fails
DENY = Ruling(Decision.DENY, "not_allowed", DecisionSource.BASELINE_POLICY, PolicyScope.DOMAIN)


def event(number: int) -> PolicyDecisionEvent:
    """Its request id is `id-<number>`."""
    request = NetworkPolicyRequest(NetworkProtocol.HTTP, parse_endpoint("blocked.test:80"))
    return PolicyDecisionEvent.of(DENY, request, f"id-{number}", 1_764_000_000.0)


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Listening(logging.Handler):
    """Collects the log, and lets a test wait for a line of another thread."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.lines.append(record.getMessage())
            self._changed.notify_all()

    def wait_for(self, text: str) -> str:
        with self._changed:
            assert self._changed.wait_for(lambda: any(text in line for line in self.lines), LIMIT), self.lines
            return next(line for line in self.lines if text in line)


@contextmanager
def listening() -> Iterator[Listening]:
    """What the product logs meanwhile."""
    handler = Listening()
    logger = logging.getLogger("codex_network_proxy")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
