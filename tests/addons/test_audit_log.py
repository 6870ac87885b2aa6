"""The audit log on disk: every event is a line, in order, and whatever the file does delays nobody."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from codex_network_proxy.addons.audit_log import AuditLog, LogFile
from codex_network_proxy.addons.audit_sinks import AuditSinks
from codex_network_proxy.addons.log_file import RotatingLogFile
from codex_network_proxy.addons.seldom import Monotonic, Seldom
from codex_network_proxy.addons.sink_thread import Pace

from .sink_kit import LIMIT, FakeFile, FakeTime, Listening, event

DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def ids(lines: bytes) -> list[str]:
    return [json.loads(line)["request.id"] for line in lines.splitlines()]


Make = Callable[..., AuditLog]


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Make]:
    made: list[AuditLog] = []

    def make(
        file: LogFile | None = None, path: Path | None = None, *, monotonic: Monotonic = time.monotonic, **pace: float
    ) -> AuditLog:
        asked = replace(Pace(delay=0.0, retry=0.0), **pace)  # type: ignore[arg-type]  # the queue's limit is a whole number
        audit_log = AuditLog(path or tmp_path / "log" / "audit.jsonl", file=file, pace=asked, monotonic=monotonic)
        made.append(audit_log)
        return audit_log

    yield make
    for audit_log in made:
        close(audit_log)


def close(*audit_logs: AuditLog) -> None:
    AuditSinks(audit_logs).close()


def test_events_become_json_lines_in_their_order(audit: Make, tmp_path: Path) -> None:
    audit_log = audit()
    for number in range(2_500):
        audit_log.emit(event(number))
    close(audit_log)
    path = tmp_path / "log" / "audit.jsonl"
    assert ids(path.read_bytes()) == [f"id-{number}" for number in range(2_500)]
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert audit_log.dropped == 0


def test_a_batch_waits_for_its_companions_but_not_for_the_close(audit: Make) -> None:
    file = FakeFile()
    audit_log = audit(file, delay=3600.0)
    audit_log.emit(event(1))
    audit_log.emit(event(2))
    close(audit_log)
    assert ids(file.content) == ["id-1", "id-2"]
    assert file.closed


def test_a_slow_sink_delays_nothing_and_the_queue_stays_bounded(audit: Make, log: Listening) -> None:
    file = FakeFile(gated=True)
    audit_log = audit(file, queue=3)
    audit_log.emit(event(0))
    file.wait_for_append()  # the thread is stuck now
    for number in range(1, 11):
        audit_log.emit(event(number))
    assert audit_log.dropped == 7
    file.answer(None, None)
    assert log.wait_for("falls behind").endswith("falls behind; 7 events lost so far")
    close(audit_log)
    assert ids(file.content) == ["id-0", "id-1", "id-2", "id-3"]


def test_a_sink_that_hangs_does_not_hold_the_close_for_more_than_a_second(
    audit: Make, log: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_network_proxy.addons.audit_sinks.CLOSE_LIMIT", 0.01)
    file = FakeFile(gated=True)
    audit_log = audit(file)
    audit_log.emit(event(0))
    file.wait_for_append()
    audit_log.emit(event(1))
    close(audit_log)
    told = list(log.lines)
    file.answer(None, None)
    audit_log.wait_closed(LIMIT)
    assert [line.split("jsonl ")[1] for line in told] == ["closed; 2 events were lost in all"]


def test_a_full_disk_is_told_once_and_the_count_when_it_recovers(audit: Make, log: Listening) -> None:
    file, now = FakeFile(), FakeTime()
    file.error = DISK_FULL
    audit_log = audit(file, queue=2, monotonic=now)
    audit_log.emit(event(0))
    file.wait_for_append(50)  # it tries again and again
    line = log.wait_for("cannot be written")
    assert line.endswith("cannot be written: No space left on device; decisions go on, 0 events lost so far")
    for number in range(1, 6):
        audit_log.emit(event(number))
    assert audit_log.dropped == 3
    file.error = None
    assert log.wait_for("written again").endswith("is written again; 3 events were lost")
    close(audit_log)
    assert ids(file.content) == ["id-0", "id-1", "id-2"]
    assert len(log.lines) == 2


def test_a_lasting_fault_is_told_every_10_seconds(audit: Make, log: Listening) -> None:
    file, now = FakeFile(), FakeTime()
    file.error = DISK_FULL
    audit(file, monotonic=now).emit(event(0))
    log.wait_for("cannot be written")
    now.now += 9.9
    file.wait_for_append(50)
    assert len(log.lines) == 1
    log.lines.clear()
    now.now += 0.1
    log.wait_for("cannot be written")


def test_a_sink_that_flickers_does_not_fill_the_log(audit: Make, log: Listening) -> None:
    file, now = FakeFile(gated=True), FakeTime()
    audit_log = audit(file, monotonic=now)
    for number in range(4):
        audit_log.emit(event(number))
        file.wait_for_append()
        file.answer(DISK_FULL)
        file.wait_for_append()
        file.answer(None)
    close(audit_log)
    assert [line.split("jsonl ")[1] for line in log.lines] == [
        "cannot be written: No space left on device; decisions go on, 0 events lost so far",
        "is written again; 0 events were lost",
    ]


def test_what_a_sink_took_only_in_part_is_not_given_twice(audit: Make) -> None:
    file = FakeFile(most=1_000)
    audit_log = audit(file)
    for number in range(20):
        audit_log.emit(event(number))
    close(audit_log)
    assert ids(file.content) == [f"id-{number}" for number in range(20)]


def test_a_sink_that_takes_nothing_counts_as_failing(audit: Make, log: Listening) -> None:
    file = FakeFile(most=0)
    audit_log = audit(file)
    audit_log.emit(event(0))
    assert "cannot be written: nothing was written" in log.wait_for("cannot be written")
    file.most = sys.maxsize
    log.wait_for("written again")
    close(audit_log)
    assert ids(file.content) == ["id-0"]


def test_whatever_a_sink_raises_the_thread_lives_on(audit: Make, log: Listening) -> None:
    file = FakeFile()
    file.error = ZeroDivisionError("a bug")
    audit_log = audit(file)
    audit_log.emit(event(0))
    assert "cannot be written: a bug" in log.wait_for("cannot be written")
    file.error = None
    log.wait_for("written again")
    assert ids(file.content) == ["id-0"]


def test_an_unwritable_path_is_told_at_the_start(audit: Make, log: Listening) -> None:
    file = FakeFile()
    file.open_error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    audit(file)
    assert "cannot be written: Permission denied; decisions go on" in log.wait_for("cannot be written")


def test_events_left_at_the_close_are_counted(audit: Make, log: Listening) -> None:
    file = FakeFile()
    file.error = DISK_FULL
    audit_log = audit(file, retry=3600.0)
    audit_log.emit(event(0))
    file.wait_for_append()
    audit_log.emit(event(1))
    close(audit_log)
    assert log.lines[-1].endswith("closed; 2 events were lost in all")
    assert audit_log.dropped == 2


def test_events_after_the_close_are_lost_and_a_second_close_says_nothing(audit: Make, log: Listening) -> None:
    file = FakeFile()
    audit_log = audit(file)
    close(audit_log)
    audit_log.emit(event(0))
    close(audit_log)
    assert (file.content, audit_log.dropped, log.lines) == (b"", 1, [])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")
def test_the_real_full_disk(audit: Make, log: Listening) -> None:
    audit_log = audit(path=Path("/dev/full"))
    audit_log.emit(event(0))
    line = log.wait_for("cannot be written")
    assert line.startswith("audit log /dev/full cannot be written: No space left on device")


def test_a_folder_removed_while_running_is_made_again(audit: Make, tmp_path: Path) -> None:
    path = tmp_path / "log" / "audit.jsonl"
    file = Recording(path)
    audit_log = audit(file, path=path)
    audit_log.emit(event(0))
    file.wait_for_append()
    shutil.rmtree(path.parent)
    audit_log.emit(event(1))
    close(audit_log)
    assert ids(path.read_bytes()) == ["id-1"]


def test_files_that_fill_up_under_load_are_moved_on_without_losing_an_event(audit: Make, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit_log = audit(RotatingLogFile(path, max_bytes=40_000, keep=300), path, batch=50)
    for number in range(5_000):
        audit_log.emit(event(number))
    audit_log.close_soon()
    audit_log.wait_closed(LIMIT)
    moved = sorted(tmp_path.glob("audit.jsonl.*"), key=lambda file: -int(file.suffix[1:]))
    assert len(moved) > 10
    assert ids(b"".join(file.read_bytes() for file in (*moved, path))) == [f"id-{number}" for number in range(5_000)]
    assert {file.stat().st_mode & 0o777 for file in (*moved, path)} == {0o600}
    assert audit_log.dropped == 0


class Recording(FakeFile):
    """The real file, with the fake's way to wait for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = RotatingLogFile(path)

    def append(self, lines: bytes) -> int:
        written = self._file.append(lines)
        self.entered.release()
        return written

    def close(self) -> None:
        self._file.close()


def test_an_event_that_cannot_be_written_down_harms_nobody(audit: Make, log: Listening) -> None:
    class Broken:
        def json_line(self) -> str:
            raise ValueError

    file = FakeFile()
    audit_log = audit(file)
    audit_log.emit(Broken())  # type: ignore[arg-type]  # on purpose
    audit_log.emit(event(1))
    close(audit_log)
    assert audit_log.dropped == 1
    assert log.lines[0] == "an audit event could not be written down"
    assert ids(file.content) == ["id-1"]


def test_seldom_is_at_most_once_per_interval() -> None:
    now = FakeTime()
    seldom = Seldom(now, interval=10)
    told = []
    for seconds in (0, 5, 4.9, 0.1, 10, 30, 9):
        now.now += seconds
        told.append(seldom())
    assert told == [True, False, False, True, True, True, False]
