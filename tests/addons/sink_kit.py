"""Events, and what the tests of audit sinks need to see what other threads do."""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from codex_network_proxy.addons.audit_export import AuditExport, export_from_environment
from codex_network_proxy.addons.sink_thread import Pace
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


AT_ONCE = Pace(delay=0.0, retry=0.0)


@contextmanager
def exporting(variables: dict[str, str], pace: Pace = AT_ONCE) -> Iterator[AuditExport]:
    export = export_from_environment(variables, pace)
    assert export
    try:
        yield export
    finally:
        finish(export)


def finish(export: AuditExport) -> None:
    export.close_soon()
    export.wait_closed(LIMIT)


@contextmanager
def short_patience() -> Iterator[None]:
    """How long the exporter tries one batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
        yield


class FakeFile:
    """A file whose speed and faults the test decides. A gated one waits in `append` for an `answer`.

    It takes `most` bytes at once, and of these whole lines only.
    """

    def __init__(self, *, gated: bool = False, most: int = sys.maxsize) -> None:
        self.content = b""
        self.error: Exception | None = None
        self.open_error: Exception | None = None
        self.most = most
        self.closed = False
        self.entered = threading.Semaphore(0)
        self._answers: queue.SimpleQueue[Exception | None] | None = queue.SimpleQueue() if gated else None

    def open(self) -> None:
        if self.open_error:
            raise self.open_error

    def append(self, lines: bytes) -> int:
        self.entered.release()
        error = self._answers.get(timeout=LIMIT) if self._answers is not None else self.error
        if error:
            raise error
        taken = lines[: lines.rfind(b"\n", 0, self.most) + 1]
        self.content += taken
        return len(taken)

    def close(self) -> None:
        self.closed = True

    def answer(self, *errors: Exception | None) -> None:
        assert self._answers is not None
        for error in errors:
            self._answers.put(error)

    def wait_for_append(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.entered.acquire(timeout=LIMIT)
