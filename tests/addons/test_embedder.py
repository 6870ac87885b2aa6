"""Functions of the embedding program: where they run, what comes back, and what ends them."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from codex_network_proxy.addons.embedder import NAME, Embedder, TriedToExit

PATIENCE = 10.0


def from_another_thread[Result](call: Callable[[], Awaitable[Result]]) -> Result:
    """Runs it in a loop of its own, as the library's thread does."""
    results: list[Result] = []
    errors: list[BaseException] = []

    async def body() -> Result:
        return await asyncio.wait_for(call(), PATIENCE)

    def run() -> None:
        try:
            results.append(asyncio.run(body()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


async def in_this_loop[Result](call: Callable[[Embedder], Awaitable[Result]]) -> Result:
    """The program's loop is the running one."""
    embedder = Embedder()
    embedder.begin(asyncio.get_running_loop())
    return await asyncio.to_thread(from_another_thread, lambda: call(embedder))


async def asynchronous(number: int) -> tuple[int, str]:
    return number + 1, threading.current_thread().name


def plain(number: int) -> tuple[int, str]:
    return number + 1, threading.current_thread().name


@pytest.mark.parametrize("function", [asynchronous, plain])
def test_it_runs_in_the_programs_loop_and_its_answer_comes_back(function: Callable[[int], object]) -> None:
    answer = asyncio.run(in_this_loop(lambda embedder: embedder.outside(function)(1)))
    assert answer == (2, threading.current_thread().name)


@pytest.mark.parametrize("function", [asynchronous, plain])
def test_without_a_loop_it_has_a_thread_of_its_own(function: Callable[[int], object]) -> None:
    embedder = Embedder()
    embedder.begin(None)
    assert from_another_thread(lambda: embedder.outside(function)(1)) == (2, NAME)
    thread = embedder.end()
    assert thread
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_an_end_right_after_the_beginning_is_one() -> None:
    for _ in range(200):
        embedder = Embedder()
        embedder.begin(None)
        thread = embedder.end()
        assert thread
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_what_it_raises_comes_back() -> None:
    async def broken(_: int) -> None:
        raise KeyError("canary")

    with pytest.raises(KeyError, match="canary"):
        asyncio.run(in_this_loop(lambda embedder: embedder.outside(broken)(1)))


async def leave_later(_: int) -> None:
    await asyncio.sleep(0)
    sys.exit(3)


def leave_at_once(_: int) -> None:
    sys.exit(3)


async def interrupt(_: int) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("function", [leave_later, leave_at_once, interrupt])
def test_one_that_wants_to_exit_ends_neither_the_caller_nor_the_others(function: Callable[[int], object]) -> None:
    embedder = Embedder()
    embedder.begin(None)

    async def caller() -> object:
        with pytest.raises(TriedToExit, match=r"SystemExit|KeyboardInterrupt"):
            await embedder.outside(function)(1)
        return await embedder.outside(plain)(1)

    assert from_another_thread(caller) == (2, NAME)
    thread = embedder.end()
    assert thread
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_the_programs_own_loop_may_exit() -> None:
    """What a function of the program raises there is the program's business; the caller is told."""
    told: list[str] = []

    async def caller(embedder: Embedder) -> None:
        try:
            await embedder.outside(leave_later)(1)
        except TriedToExit as error:
            told.append(str(error))

    with pytest.raises(SystemExit):
        asyncio.run(in_this_loop(caller))
    assert told == ["SystemExit"]


def test_who_is_no_longer_waited_for_is_cancelled() -> None:
    ended = threading.Event()

    async def endless(_: int) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async def briefly(embedder: Embedder) -> None:
        await asyncio.wait_for(embedder.outside(endless)(1), 0.01)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await in_this_loop(briefly)
        await asyncio.to_thread(ended.wait, PATIENCE)

    asyncio.run(main())
    assert ended.is_set()


def test_a_loop_that_is_gone_is_an_error_and_nothing_is_left_unawaited() -> None:
    embedder, loop = Embedder(), asyncio.new_event_loop()
    embedder.begin(loop)
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        from_another_thread(lambda: embedder.outside(asynchronous)(1))


def test_a_loop_that_is_closed_under_a_question_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    program, embedder = asyncio.new_event_loop(), Embedder()
    begun, closed = asyncio.Event(), threading.Event()

    async def endless(_: int) -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    async def withdrawn() -> None:
        asked = asyncio.ensure_future(embedder.outside(endless)(1))
        await asyncio.to_thread(closed.wait, PATIENCE)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    embedder.begin(program)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(lambda: from_another_thread(withdrawn))
        program.run_until_complete(asyncio.wait_for(begun.wait(), PATIENCE))
        for task in asyncio.all_tasks(program):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # the program's own fault
        program.close()
        closed.set()
        asking.result(PATIENCE)
    (record,) = caplog.records
    assert record.getMessage() == "the event loop of a decider or observer was closed while it had still to answer"
    assert record.exc_info is None


def test_a_proxy_that_does_not_run_calls_nobody() -> None:
    with pytest.raises(RuntimeError, match="does not run"):
        from_another_thread(lambda: Embedder().outside(asynchronous)(1))
    assert Embedder().end() is None


def test_one_that_blocks_delays_neither_the_caller_nor_the_end() -> None:
    """It keeps its thread to itself."""
    release, blocking = threading.Event(), threading.Event()

    def blocked(_: int) -> None:
        blocking.set()
        release.wait(PATIENCE)

    embedder = Embedder()
    embedder.begin(None)

    async def late() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(embedder.outside(blocked)(1), 0.01)
        started = time.monotonic()
        await asyncio.sleep(0)
        return time.monotonic() - started

    assert from_another_thread(late) < PATIENCE
    assert blocking.is_set()
    thread = embedder.end()
    assert thread is not None
    assert thread.is_alive()
    release.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
