"""Look-ups that take long, or that several want at once: bounded in time and number, and nobody waits for another's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from codex_network_proxy.addons.lookup_threads import LookupThreads
from codex_network_proxy.addons.resolver import SystemResolver
from codex_network_proxy.policy.errors import ResolutionFailed

from .resolver_kit import LIMIT, FakeSystem, Make, _resolve, hosts_file, resolve, resolvers, run, v4


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    return hosts_file(tmp_path)


@pytest.fixture
def make(hosts: Path) -> Iterator[Make]:
    with resolvers(hosts) as make:
        yield make


def test_a_lookup_that_hangs_delays_no_other(make: Make) -> None:
    system = FakeSystem(name=[v4("192.0.2.1")])
    system.hanging = {b"slow.test."}
    resolver = make(system, limit=LIMIT)

    async def both() -> tuple[Any, ...]:
        slow = asyncio.create_task(_resolve(resolver, "slow.test"))
        await asyncio.to_thread(system.began.acquire, timeout=LIMIT)
        assert await _resolve(resolver, "name.test") == (ip_address("192.0.2.1"),)
        assert not slow.done()
        system.end.set()
        return await slow

    assert run(both()) == (ip_address("192.0.2.99"),)


def test_a_lookup_that_hangs_fails_after_the_limit(make: Make) -> None:
    system = FakeSystem()
    system.hanging = {b"slow.test."}
    with pytest.raises(ResolutionFailed, match=r"^could not resolve slow\.test: no answer within 0\.01 s$"):
        resolve(make(system, limit=0.01), "slow.test")


def test_the_limit_is_2_seconds() -> None:
    resolver = SystemResolver()
    assert resolver._limit == 2.0
    resolver.close()


def test_a_lookup_after_one_that_hung_starts_anew(make: Make) -> None:
    system = FakeSystem(slow=[v4("192.0.2.1")])
    system.hanging = {b"slow.test."}
    resolver = make(system, limit=0.01)
    with pytest.raises(ResolutionFailed, match="no answer within"):
        resolve(resolver, "slow.test")
    system.hanging = set()
    resolver._limit = LIMIT
    assert resolve(resolver, "slow.test") == ["192.0.2.1"]
    assert system.asked == [b"slow.test."] * 2


def test_a_late_answer_serves_the_next_caller(make: Make) -> None:
    system = FakeSystem()
    system.hanging = {b"slow.test."}
    resolver = make(system, limit=0.01, threads=LookupThreads(idle_seconds=0))

    async def twice() -> tuple[Any, ...]:
        with pytest.raises(ResolutionFailed, match="no answer within"):
            await _resolve(resolver, "slow.test")
        system.end.set()
        await asyncio.to_thread(system.threads[0].join, LIMIT)
        return await _resolve(resolver, "slow.test")

    assert run(twice()) == (ip_address("192.0.2.99"),)
    assert len(system.asked) == 1


def test_when_every_thread_hangs_lookups_fail_closed(make: Make) -> None:
    system = FakeSystem()
    system.hanging = {b"slow.test."}
    resolver = make(system, limit=LIMIT, threads=LookupThreads(most=1, queue_limit=0))

    async def two() -> tuple[Any, ...]:
        slow = asyncio.create_task(_resolve(resolver, "slow.test"))
        await asyncio.to_thread(system.began.acquire, timeout=LIMIT)
        with pytest.raises(ResolutionFailed, match=r"could not resolve name\.test: too many lookups hang"):
            await _resolve(resolver, "name.test")
        system.end.set()
        return await slow

    assert run(two()) == (ip_address("192.0.2.99"),)
    assert system.asked == [b"slow.test."]


def test_a_lookup_whose_time_ran_out_in_the_queue_asks_nobody(make: Make) -> None:
    system = FakeSystem(late=[v4("192.0.2.1")], last=[v4("192.0.2.1")])
    system.hanging = {b"slow.test."}
    resolver = make(system, limit=0.01, threads=LookupThreads(most=1))

    async def queue_up() -> None:
        for name in ("slow.test", "late.test"):
            with pytest.raises(ResolutionFailed, match="no answer within"):
                await _resolve(resolver, name)
        system.end.set()

    run(queue_up())
    resolver._limit = LIMIT
    assert resolve(resolver, "last.test") == ["192.0.2.1"]
    assert system.asked == [b"slow.test.", b"last.test."]


def test_callers_at_once_share_one_lookup_and_one_that_leaves_does_not_end_it(make: Make) -> None:
    system = FakeSystem()
    system.hanging = {b"slow.test."}
    resolver = make(system, limit=LIMIT)

    async def three() -> list[tuple[Any, ...]]:
        leaves, *stay = [asyncio.create_task(_resolve(resolver, "slow.test")) for _ in range(3)]
        await asyncio.to_thread(system.began.acquire, timeout=LIMIT)
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        system.end.set()
        return await asyncio.gather(*stay)

    assert run(three()) == [(ip_address("192.0.2.99"),)] * 2
    assert len(system.asked) == 1


def test_callers_at_once_get_each_an_error_of_their_own(make: Make) -> None:
    system = FakeSystem(name=OSError("odd"))
    resolver = make(system)

    async def two() -> list[object]:
        return [*await asyncio.gather(*(_resolve(resolver, "name.test") for _ in range(2)), return_exceptions=True)]

    first, second = run(two())
    assert isinstance(first, ResolutionFailed)
    assert isinstance(second, ResolutionFailed)
    assert first is not second
    assert len(system.asked) == 1


def test_a_lookup_of_a_loop_that_has_ended_is_not_waited_for(make: Make) -> None:
    system = FakeSystem(slow=[v4("192.0.2.1")])
    system.hanging = {b"slow.test."}
    resolver = make(system, limit=LIMIT)

    async def give_up() -> None:
        asyncio.create_task(_resolve(resolver, "slow.test"))  # noqa: RUF006  # asyncio.run cancels it
        await asyncio.to_thread(system.began.acquire, timeout=LIMIT)

    run(give_up())
    system.hanging = set()
    assert resolve(resolver, "slow.test") == ["192.0.2.1"]
