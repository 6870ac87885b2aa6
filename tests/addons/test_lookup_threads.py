from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from codex_network_proxy.addons.lookup_threads import LookupThreads

LIMIT = 20.0


class Hanging:
    """Jobs that say they began, and hang until `end` is set."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.end = threading.Event()

    def __call__(self) -> None:
        self.began.release()
        self.end.wait(LIMIT)

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self.began.acquire(timeout=LIMIT)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.end.set()


def test_jobs_that_hang_delay_no_other(hanging: Hanging) -> None:
    threads = LookupThreads(most=4)
    assert [threads.submit(hanging) for _ in range(3)] == [True, True, True]
    hanging.wait_for(3)
    done = threading.Event()
    assert threads.submit(done.set)
    assert done.wait(LIMIT)
    threads.close()


def test_a_thread_that_has_finished_serves_the_next_job() -> None:
    threads = LookupThreads()
    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    returned = _when_idle(threads)
    for _ in range(3):
        threads.submit(lambda: names.put(threading.current_thread().name))
        returned()
    assert len({names.get(timeout=LIMIT) for _ in range(3)}) == 1
    assert threads.count == 1
    threads.close()


def _when_idle(threads: LookupThreads) -> Callable[[], None]:
    """Waits, without sleeping, until every thread waits for a job."""
    changed = threads._changed

    def wait() -> None:
        for _ in range(1_000_000):
            with changed:
                if threads._idle == threads.count and not threads._jobs:
                    return
        pytest.fail("the threads did not come to rest")

    return wait


def test_a_second_job_at_once_does_not_wait_behind_the_first(hanging: Hanging) -> None:
    threads = LookupThreads()
    wait = _when_idle(threads)
    threads.submit(lambda: None)
    wait()  # one idle thread, and two jobs for it
    done = threading.Event()
    threads.submit(hanging)
    threads.submit(done.set)
    assert done.wait(LIMIT)
    assert threads.count == 2
    threads.close()


def test_beyond_the_most_threads_jobs_wait_and_beyond_the_queue_they_are_refused(hanging: Hanging) -> None:
    threads = LookupThreads(most=2, queue_limit=1)
    threads.submit(hanging)
    threads.submit(hanging)
    hanging.wait_for(2)
    done = threading.Event()
    assert [threads.submit(done.set), threads.submit(done.set)] == [True, False]
    assert (threads.count, done.is_set()) == (2, False)
    hanging.end.set()
    assert done.wait(LIMIT)
    threads.close()


def _refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_no_thread_to_be_had_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", _refuse)
    threads = LookupThreads()
    assert (threads.submit(lambda: None), threads.count) == (False, 0)


def test_no_further_thread_to_be_had_leaves_the_job_to_those_there_are(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = LookupThreads()
    threads.submit(hanging)
    hanging.wait_for(1)
    monkeypatch.setattr(threading.Thread, "start", _refuse)
    done = threading.Event()
    assert threads.submit(done.set)
    hanging.end.set()
    assert done.wait(LIMIT)
    threads.close()


def test_threads_do_not_keep_the_process_from_ending(hanging: Hanging) -> None:
    threads = LookupThreads()
    daemons: queue.SimpleQueue[bool] = queue.SimpleQueue()
    threads.submit(lambda: daemons.put(threading.current_thread().daemon))
    assert daemons.get(timeout=LIMIT)
    threads.close()


def test_idle_threads_go_home_after_a_while_and_come_back() -> None:
    threads = LookupThreads(idle_seconds=0.0)
    worker: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    for _ in range(3):
        assert threads.submit(lambda: worker.put(threading.current_thread()))
        worker.get(timeout=LIMIT).join(LIMIT)
        assert threads.count == 0


def test_a_close_sends_idle_threads_home_and_refuses_new_jobs() -> None:
    threads = LookupThreads()
    worker: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    threads.submit(lambda: worker.put(threading.current_thread()))
    thread = worker.get(timeout=LIMIT)
    threads.close()
    thread.join(LIMIT)
    assert (threads.count, threads.submit(lambda: None)) == (0, False)


def test_a_close_forgets_jobs_that_wait(hanging: Hanging) -> None:
    threads = LookupThreads(most=1)
    worker: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    ran: list[str] = []

    def hang() -> None:
        worker.put(threading.current_thread())
        hanging()

    threads.submit(hang)
    hanging.wait_for(1)
    threads.submit(lambda: ran.append("forgotten"))
    threads.close()
    hanging.end.set()
    worker.get(timeout=LIMIT).join(LIMIT)
    assert (ran, threads.count) == ([], 0)
