"""Events in the pipeline of an application, which it owns: it is neither delayed nor ended."""

from __future__ import annotations

import threading

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from codex_network_proxy.addons.audit_export import export_to
from codex_network_proxy.policy.audit import EVENT_NAME

from .sink_kit import AT_ONCE, LIMIT, Listening, event, finish


def provider(exporter: InMemoryLogRecordExporter) -> LoggerProvider:
    made = LoggerProvider(Resource({"service.name": "the-application"}), shutdown_on_exit=False)
    made.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    return made


def test_an_applications_pipeline_gets_the_events_and_is_left_running() -> None:
    memory = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # its own
    export = export_to(provider(memory))
    export.emit(event(1))
    finish(export)
    (taken,) = memory.get_finished_logs()
    assert dict(taken.log_record.attributes or {}) == event(1).fields()
    assert taken.log_record.event_name == EVENT_NAME
    assert taken.instrumentation_scope
    assert taken.instrumentation_scope.name == "codex_otel.network_proxy"
    assert taken.resource.attributes["service.name"] == "the-application"
    assert not memory._stopped


class SlowPipeline:
    """A provider whose work takes as long as the test says, or fails."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.error = error
        self.taken = 0

    def get_logger(self, name: str, version: str) -> SlowPipeline:
        return self

    def emit(self, record: object) -> None:
        self.entered.release()
        assert self.gate.wait(LIMIT)
        if self.error:
            raise self.error
        self.taken += 1


def test_a_slow_pipeline_delays_nobody() -> None:
    slow = SlowPipeline()
    export = export_to(slow, AT_ONCE)  # type: ignore[arg-type]  # all of it that is used
    export.emit(event(1))
    assert slow.entered.acquire(timeout=LIMIT)
    export.emit(event(2))
    slow.gate.set()
    finish(export)
    assert slow.taken == 2


@pytest.mark.parametrize("error", [RuntimeError("a secret"), SystemExit("a secret")])
def test_a_pipeline_that_raises_loses_its_events_and_nothing_else(error: BaseException, log: Listening) -> None:
    broken = SlowPipeline(error)
    broken.gate.set()
    export = export_to(broken)  # type: ignore[arg-type]  # all of it that is used
    export.emit(event(1))
    finish(export)
    assert export.dropped == 1
    assert log.lines[0].endswith(f"LoggerProvider fails: {type(error).__name__}; decisions go on, 1 events lost so far")
    assert "a secret" not in "".join(log.lines)
