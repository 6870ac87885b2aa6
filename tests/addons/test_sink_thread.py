"""A sink that fails delays nobody: what waits, what is lost, what the log says, and when it counts as working."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from codex_network_proxy.addons.audit_sinks import AuditSinks
from codex_network_proxy.addons.sink_thread import Lost, Pace, SinkThread, Words

from .sink_kit import LIMIT, FakeTime, Listening, event

WORDS = Words("letter box", "is jammed", "is free")
AT_ONCE = Pace(queue=10, batch=3, delay=0.0, retry=0.0)


class Box:
    """Takes numbers; the test says what goes wrong."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.error: Exception | None = None
        self.shut: Exception | None = None
        self.tried = threading.Semaphore(0)
        self.batches: list[int] = []

    def open(self) -> None:
        self.tried.release()
        if self.shut:
            raise self.shut

    def write(self, items: Sequence[int]) -> int:
        self.batches.append(len(items))
        error = self.error
        self.tried.release()
        if error:
            raise error
        self.taken += items
        return len(items)

    def close(self) -> None:
        pass

    def wait_tried(self, times: int) -> None:
        for _ in range(times):
            assert self.tried.acquire(timeout=LIMIT)


def finish(thread: SinkThread[int]) -> None:
    thread.close_soon()
    thread.wait_closed(LIMIT)


def test_what_is_lost_is_not_tried_again_and_the_rest_goes_on(log: Listening) -> None:
    box = Box()
    box.error = Lost("it says no")
    thread = SinkThread(box, WORDS, AT_ONCE, monotonic=FakeTime())
    for number in range(5):
        thread.put(number)
    log.wait_for("letter box is jammed: it says no; decisions go on, ")
    box.wait_tried(2)
    while thread.dropped < 5:
        box.wait_tried(1)
    box.error = None
    thread.put(5)
    log.wait_for("letter box is free; 5 events were lost")
    finish(thread)
    assert (box.taken, thread.dropped) == ([5], 5)
    assert max(box.batches) <= AT_ONCE.batch
    assert len(log.lines) == 2


def test_it_works_from_the_moment_it_was_opened() -> None:
    box = Box()
    thread = SinkThread(box, WORDS, AT_ONCE)
    thread.wait_tried(LIMIT)
    assert thread.working
    finish(thread)
    assert not thread.working


def test_a_sink_that_cannot_be_opened_is_tried_until_it_can(log: Listening) -> None:
    box = Box()
    box.shut = PermissionError("no")
    thread = SinkThread(box, WORDS, AT_ONCE, monotonic=FakeTime())
    box.wait_tried(20)
    assert not thread.working
    box.shut = None
    log.wait_for("letter box is free; 0 events were lost")
    assert thread.working
    finish(thread)
    assert log.lines[0] == "letter box is jammed: no; decisions go on, 0 events lost so far"


def test_it_does_not_work_while_a_write_fails_and_does_again_afterwards(log: Listening) -> None:
    box = Box()
    box.error = OSError("full")
    thread = SinkThread(box, WORDS, AT_ONCE)
    thread.put(1)
    log.wait_for("is jammed: full")
    assert not thread.working
    box.error = None
    log.wait_for("is free")
    assert thread.working
    finish(thread)
    assert box.taken == [1]


def test_a_full_queue_is_not_working() -> None:
    box = Box()
    thread = SinkThread(box, WORDS, Pace(queue=2, delay=3600.0))
    thread.wait_tried(LIMIT)
    thread.put(1)
    assert thread.working
    thread.put(2)
    assert not thread.working
    finish(thread)
    assert (box.taken, thread.dropped) == ([1, 2], 0)


class FakeSink:
    def __init__(self, *, working: bool = True) -> None:
        self.working = working
        self.dropped = 3
        self.seen: list[object] = []
        self.waited: list[float] = []
        self.closing = False

    def emit(self, event: object) -> None:
        self.seen.append(event)

    def close_soon(self) -> bool:
        first, self.closing = not self.closing, True
        return first

    def wait_closed(self, seconds: float) -> None:
        self.waited.append(seconds)


def test_every_sink_gets_every_event_and_all_close_in_one_second() -> None:
    sinks = [FakeSink(), FakeSink()]
    audit = AuditSinks(sinks)
    audit.emit(event(1))
    audit.close()
    audit.close()
    assert [sink.seen for sink in sinks] == [[event(1)], [event(1)]]
    assert all(len(sink.waited) == 1 and 0 <= sink.waited[0] <= 1.0 for sink in sinks)
    assert audit.dropped == 6


@pytest.mark.parametrize(
    ("file", "export", "recording"),
    [
        pytest.param(True, True, True, id="all is well"),
        pytest.param(True, False, True, id="a sink that is not required fails"),
        pytest.param(False, True, False, id="a required one fails"),
    ],
)
def test_only_a_required_sink_keeps_from_deciding(file: bool, export: bool, recording: bool) -> None:
    sinks = [FakeSink(working=file), FakeSink(working=export)]
    required = AuditSinks(sinks, required=sinks[:1]).recording
    assert required is not None
    assert required() is recording
    assert AuditSinks(sinks).recording is None


def test_a_close_is_never_overheard() -> None:
    """It comes while the thread is between two looks."""
    box = Box()
    thread = SinkThread(box, WORDS, AT_ONCE)
    clear = thread._wake.clear

    def closed_just_before() -> None:
        thread.close_soon()
        clear()

    thread._wake.clear = closed_just_before  # type: ignore[method-assign]  # the moment itself cannot be had otherwise
    thread.put(1)
    assert thread.wait_closed(LIMIT)
    assert box.taken == [1]
