"""Functions of the embedding application: told in order, never waited for, and nothing that they raise goes further."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from codex_network_proxy.addons.audit_sinks import close_all
from codex_network_proxy.addons.observers import LoopObserver, ThreadObserver, told
from codex_network_proxy.addons.sink_thread import Pace

from .sink_kit import LIMIT, Listening


class Seen:
    """Both kinds of observer; remembers what it was told, and where."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.threads: set[int] = set()
        self.enough = threading.Semaphore(0)

    def plain(self, item: int) -> None:
        self.items.append(item)
        self.threads.add(threading.get_ident())
        self.enough.release()

    async def later(self, item: int) -> None:
        await asyncio.sleep(0)
        self.plain(item)

    def wait(self, count: int) -> None:
        for _ in range(count):
            assert self.enough.acquire(timeout=LIMIT)


class Callee(Seen):
    async def __call__(self, item: int) -> None:
        await self.later(item)


async def deliver(observer: Callable[[int], object], items: range) -> LoopObserver[int]:
    running = told("the observer", observer)
    assert isinstance(running, LoopObserver)
    for item in items:
        running.emit(item)
    await running.delivered()
    close_all([running])
    return running


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(lambda seen: seen.later, id="an async method"),
        pytest.param(lambda seen: partial(seen.later), id="a part of one"),
        pytest.param(lambda seen: seen, id="an object with an async call"),
    ],
)
def test_an_async_function_is_awaited_in_the_loop(of: Callable[[Callee], Callable[[int], Awaitable[None]]]) -> None:
    seen = Callee()
    running = asyncio.run(deliver(of(seen), range(50)))
    assert seen.items == list(range(50))
    assert (seen.threads, running.dropped) == ({threading.get_ident()}, 0)


def test_a_plain_function_is_called_in_a_thread_of_its_own() -> None:
    seen = Seen()
    running = told("the observer", seen.plain)
    for item in range(50):
        running.emit(item)
    seen.wait(50)
    close_all([running])
    assert seen.items == list(range(50))
    assert len(seen.threads - {threading.get_ident()}) == 1


def test_an_async_function_that_hangs_delays_nobody_and_what_it_misses_is_counted(log: Listening) -> None:
    entered: list[int] = []

    async def hang(item: int) -> None:
        entered.append(item)
        await asyncio.Event().wait()

    async def body() -> LoopObserver[int]:
        running = LoopObserver("the observer", hang, limit=3)
        running.emit(0)
        await asyncio.sleep(0)
        for item in range(1, 11):
            running.emit(item)
        assert not running.working
        close_all([running])
        return running

    running = asyncio.run(body())
    assert (entered, running.dropped) == ([0], 10)
    assert log.lines == [
        "the observer falls behind; decisions go on, 1 events lost so far",
        "the observer closed; 10 events were lost in all",
    ]


def test_a_plain_function_that_hangs_delays_nobody_and_what_it_misses_is_counted(log: Listening) -> None:
    gate, entered = threading.Event(), threading.Semaphore(0)

    def hang(item: int) -> None:
        entered.release()
        assert gate.wait(LIMIT)

    running = ThreadObserver("the observer", hang, Pace(queue=3, batch=1, delay=0.0, retry=0.0))
    running.emit(0)
    assert entered.acquire(timeout=LIMIT)
    for item in range(1, 11):
        running.emit(item)
    assert running.dropped == 7
    gate.set()
    assert log.wait_for("falls behind") == "the observer falls behind; 7 events lost so far"
    close_all([running])
    assert running.dropped == 7


class OwnError(Exception):
    pass


async def _raise(item: int) -> None:
    if item % 2:
        raise OwnError("a secret")


async def _cancel_itself(item: int) -> None:
    if item % 2:
        raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        pytest.param(_raise, "OwnError", id="raises"),
        pytest.param(_cancel_itself, "CancelledError", id="cancels itself"),
    ],
)
def test_an_async_function_that(broken: Callable[[int], Awaitable[None]], kind: str, log: Listening) -> None:
    running = asyncio.run(deliver(broken, range(6)))
    assert running.dropped == 3
    assert log.lines == [f"the observer fails: {kind}; decisions go on, 1 events lost so far"]


def _raise_at_once(item: int) -> None:
    raise OwnError("a secret")


def _exit(item: int) -> None:
    sys.exit(3)


def _forgets_to_await(item: int) -> object:
    return _raise(item)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        pytest.param(_raise_at_once, "OwnError", id="raises"),
        pytest.param(_exit, "SystemExit", id="wants to exit"),
        pytest.param(
            _forgets_to_await, "it returned a coroutine; write it with `async def`", id="returns what it should await"
        ),
    ],
)
def test_a_plain_function_that(broken: Callable[[int], object], why: str, log: Listening) -> None:
    running = told("the observer", broken)
    running.emit(1)
    assert log.wait_for("fails").startswith(f"the observer fails: {why}; decisions go on, ")
    close_all([running])
    gc.collect()  # a coroutine that nobody ended would be told now
    assert running.dropped == 1
    assert "secret" not in "".join(log.lines)


def test_after_the_end_nothing_is_taken() -> None:
    seen = Seen()

    async def body() -> LoopObserver[int]:
        running = LoopObserver("the observer", seen.later)
        close_all([running])
        running.emit(1)
        await running.delivered()
        return running

    running = asyncio.run(body())
    assert (seen.items, running.dropped) == ([], 1)


def test_without_a_loop_an_item_is_lost_and_nothing_raised(log: Listening) -> None:
    seen = Seen()
    running = LoopObserver("the observer", seen.later)
    running.emit(1)
    assert (seen.items, running.dropped) == ([], 1)
    assert log.lines == ["the observer has no loop to run in; decisions go on, 1 events lost so far"]


def test_the_end_of_the_loop_is_the_end_of_the_observer(log: Listening) -> None:
    async def hang(item: int) -> None:
        await asyncio.Event().wait()

    async def body() -> LoopObserver[int]:
        running = LoopObserver("the observer", hang)
        running.emit(1)
        running.emit(2)
        await asyncio.sleep(0)
        return running

    running = asyncio.run(body())
    close_all([running])
    assert log.lines == ["the observer closed; 1 events were lost in all"]
