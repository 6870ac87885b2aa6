from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from codex_network_proxy.socks.deadlines import Deadlines


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when, self.callback, self.cancelled = when, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """An event loop that has a clock and nothing else."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []
        self.problems: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(when, callback))
        return self.timers[-1]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.problems.append(context)

    def pass_to(self, now: float) -> None:
        self.now = now
        for timer in list(self.timers):
            if timer.when <= now:
                self.timers.remove(timer)
                if not timer.cancelled:
                    timer.callback()


def _deadlines(clock: Clock, expired: Callable[[str], None]) -> Deadlines[str]:
    loop: asyncio.AbstractEventLoop = clock  # type: ignore[assignment]  # what Deadlines needs of one
    return Deadlines(loop, 10, expired)


def test_each_item_expires_once_in_its_own_time() -> None:
    clock, expired = Clock(), list[str]()
    deadlines = _deadlines(clock, expired.append)
    deadlines.add("a")
    clock.pass_to(103)
    deadlines.add("b")
    assert len(clock.timers) == 1
    clock.pass_to(109.9)
    assert expired == []
    clock.pass_to(110)
    assert (expired, len(deadlines)) == (["a"], 1)
    clock.pass_to(113)
    assert (expired, len(deadlines), clock.timers) == (["a", "b"], 0, [])


def test_a_discarded_item_does_not_expire() -> None:
    clock, expired = Clock(), list[str]()
    deadlines = _deadlines(clock, expired.append)
    deadlines.add("a")
    deadlines.discard("a")
    deadlines.discard("never there")
    clock.pass_to(200)
    assert expired == []


def test_an_item_added_again_starts_anew() -> None:
    clock, expired = Clock(), list[str]()
    deadlines = _deadlines(clock, expired.append)
    deadlines.add("a")
    clock.pass_to(105)
    deadlines.add("a")
    clock.pass_to(112)
    assert expired == []
    clock.pass_to(115)
    assert expired == ["a"]


def test_an_item_may_discard_another_that_is_due_as_well() -> None:
    clock, expired = Clock(), list[str]()

    def expire(item: str) -> None:
        expired.append(item)
        deadlines.discard("b")

    deadlines = _deadlines(clock, expire)
    deadlines.add("a")
    deadlines.add("b")
    clock.pass_to(110)
    assert expired == ["a"]


def test_one_failure_does_not_save_the_others() -> None:
    clock, expired = Clock(), list[str]()

    def expire(item: str) -> None:
        expired.append(item)
        deadlines.add("later")
        if item == "a":
            raise ValueError("made up")

    deadlines = _deadlines(clock, expire)
    deadlines.add("a")
    deadlines.add("b")
    clock.pass_to(110)
    assert expired == ["a", "b"]
    assert [str(problem["exception"]) for problem in clock.problems] == ["made up"]
    assert len(clock.timers) == 1


def test_close_forgets_everything() -> None:
    clock, expired = Clock(), list[str]()
    deadlines = _deadlines(clock, expired.append)
    deadlines.add("a")
    deadlines.close()
    deadlines.close()
    clock.pass_to(200)
    assert (expired, len(deadlines)) == ([], 0)
