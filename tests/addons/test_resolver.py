from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest

from codex_network_proxy.addons.lookup_threads import LookupThreads
from codex_network_proxy.addons.resolver import PinnedResolver, SystemResolver, parse_pin, parse_pins
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.interfaces import Resolver

LIMIT = 20.0


def v4(address: str) -> tuple[Any, ...]:
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)


def v6(address: str, scope: int = 0) -> tuple[Any, ...]:
    return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, scope)


class FakeSystem:
    """Stands in for `getaddrinfo`. Names in `hanging` answer when the test sets `end`, with one address."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[bytes] = []
        self.hanging: set[bytes] = set()
        self.threads: list[threading.Thread] = []
        self.began = threading.Semaphore(0)
        self.end = threading.Event()

    def __call__(self, host: bytes, port: None, *, type: socket.SocketKind) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        self.threads.append(threading.current_thread())
        assert (port, type) == (None, socket.SOCK_STREAM)
        if host in self.hanging:
            self.began.release()
            self.end.wait(LIMIT)
            return [v4("192.0.2.99")]
        answer = self.answers[host.decode().removesuffix(".test.")]
        if isinstance(answer, Exception):
            raise answer
        found: list[tuple[Any, ...]] = answer
        return found


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.77 from-hosts.test\n10.0.0.5 single-label\n")
    return path


Make = Callable[..., SystemResolver]


@pytest.fixture
def make(hosts: Path) -> Iterator[Make]:
    made: list[tuple[SystemResolver, FakeSystem]] = []

    def make(system: FakeSystem, **options: Any) -> SystemResolver:
        resolver = SystemResolver(**{"getaddrinfo": system, "hosts_file": hosts, **options})
        made.append((resolver, system))
        return resolver

    yield make
    for resolver, system in made:
        system.end.set()
        resolver.close()


def run[T](coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def resolve(resolver: Resolver, name: str) -> list[str]:
    return [str(address) for address in run(_resolve(resolver, name))]


async def _resolve(resolver: Resolver, name: str) -> tuple[Any, ...]:
    return tuple(await resolver.resolve(name, 443))


@pytest.mark.parametrize(
    ("found", "addresses"),
    [
        pytest.param([v4("192.0.2.1")], ["192.0.2.1"], id="one address"),
        pytest.param(
            [v6("2001:db8::1"), v4("192.0.2.1"), v4("10.0.0.1")],
            ["2001:db8::1", "192.0.2.1", "10.0.0.1"],
            id="both families in the system's order, private ones included",
        ),
        pytest.param([v4("192.0.2.1")] * 3, ["192.0.2.1"], id="each once"),
        pytest.param([v6("fe80::1", 3), v6("fe80::1", 4)], ["fe80::1%3", "fe80::1%4"], id="the interface is kept"),
        pytest.param([v6("fe80::1%eth0", 3)], ["fe80::1%eth0"], id="a named interface is kept as it is"),
        pytest.param([v6("2001:db8::1", 0)], ["2001:db8::1"], id="no interface, no zone"),
        pytest.param(
            [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", "/run/x"), v4("192.0.2.1")],
            ["192.0.2.1"],
            id="what is no internet address is passed over",
        ),
        pytest.param(
            [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0))],
            ["2001:db8::1"],
            id="an address without the fields of its interface",
        ),
    ],
)
def test_answers_of_the_system(make: Make, found: list[tuple[Any, ...]], addresses: list[str]) -> None:
    assert resolve(make(FakeSystem(name=found)), "name.test") == addresses


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "could not resolve name.test: Name or service not known",
            id="an unknown name",
        ),
        pytest.param(OSError("odd"), "could not resolve name.test: lookup failed", id="a fault of the system"),
        pytest.param([], "could not resolve name.test: no address", id="an empty answer"),
        pytest.param(
            [(socket.AF_UNIX, 1, 0, "", "/run/x")], "could not resolve name.test: no address", id="nothing of use"
        ),
        pytest.param([v4("300.1.1.1")], "could not resolve name.test: ValueError", id="an answer that is none"),
        pytest.param(ZeroDivisionError(), "could not resolve name.test: ZeroDivisionError", id="what no rule foresaw"),
    ],
)
def test_what_does_not_resolve_fails_with_its_reason(make: Make, answer: object, message: str) -> None:
    with pytest.raises(ResolutionFailed) as failed:
        resolve(make(FakeSystem(name=answer)), "name.test")
    assert str(failed.value) == message


def test_a_name_that_is_not_ascii_is_never_asked_for(make: Make) -> None:
    system = FakeSystem()
    with pytest.raises(ResolutionFailed, match="UnicodeEncodeError"):
        resolve(make(system), "größe.test")
    assert system.asked == []


def test_names_are_asked_for_as_absolute_ones(make: Make) -> None:
    system = FakeSystem(name=[v4("192.0.2.1")])
    resolve(make(system), "name.test")
    assert system.asked == [b"name.test."]


@pytest.mark.parametrize("literal", ["192.0.2.1", "2001:db8::1", "fe80::1%lo0"])
def test_a_literal_is_its_own_answer(make: Make, literal: str) -> None:
    system = FakeSystem()
    assert resolve(make(system), literal) == [literal]
    assert system.asked == []


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        pytest.param("from-hosts.test", ["192.0.2.77"], id="a name of the hosts file"),
        pytest.param("single-label", ["10.0.0.5"], id="a single label of the hosts file"),
        pytest.param("localhost", ["127.0.0.1", "::1"], id="localhost, which this hosts file lacks"),
        pytest.param("app.localhost", ["127.0.0.1", "::1"], id="a name under localhost"),
    ],
)
def test_names_of_this_machine_need_no_query(make: Make, name: str, addresses: list[str]) -> None:
    system = FakeSystem()
    assert resolve(make(system), name) == addresses
    assert system.asked == []


def test_the_hosts_file_may_say_what_localhost_is(make: Make, hosts: Path) -> None:
    hosts.write_text("127.0.0.1 localhost\n")
    assert resolve(make(FakeSystem()), "localhost") == ["127.0.0.1"]


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


def test_a_known_answer_comes_without_suspending(make: Make) -> None:
    system, now = FakeSystem(name=[v4("192.0.2.1")]), FakeTime()
    resolver = make(system, monotonic=now)
    resolve(resolver, "name.test")
    now.now += 4.9
    with pytest.raises(StopIteration) as answered:
        _resolve(resolver, "name.test").send(None)
    assert answered.value.value == (ip_address("192.0.2.1"),)
    assert len(system.asked) == 1


def test_a_known_answer_is_forgotten_after_5_seconds(make: Make) -> None:
    system, now = FakeSystem(name=[v4("192.0.2.1")]), FakeTime()
    resolver = make(system, monotonic=now)
    resolve(resolver, "name.test")
    now.now += 5
    system.answers["name"] = [v4("10.0.0.1")]
    assert resolve(resolver, "name.test") == ["10.0.0.1"]


def test_answers_are_forgotten_on_request(make: Make) -> None:
    system = FakeSystem(name=[v4("192.0.2.1")])
    resolver = make(system)
    resolve(resolver, "name.test")
    resolver.forget()
    resolve(resolver, "name.test")
    assert len(system.asked) == 2


def test_failures_are_not_remembered(make: Make) -> None:
    system = FakeSystem(name=OSError("odd"))
    resolver = make(system)
    with pytest.raises(ResolutionFailed, match="lookup failed"):
        resolve(resolver, "name.test")
    system.answers["name"] = [v4("192.0.2.1")]
    assert resolve(resolver, "name.test") == ["192.0.2.1"]


def test_the_cache_is_bounded_and_lets_go_of_the_oldest(make: Make) -> None:
    names = ("a", "b", "c")
    system = FakeSystem(**{name: [v4("192.0.2.1")] for name in names})
    resolver = make(system, cache_entries=2)
    for name in (*names, "c", "b", "a"):
        resolve(resolver, f"{name}.test")
    assert system.asked == [b"a.test.", b"b.test.", b"c.test.", b"a.test."]


def test_a_closed_resolver_fails(make: Make) -> None:
    resolver = make(FakeSystem())
    resolver.close()
    with pytest.raises(ResolutionFailed, match="could not resolve"):
        resolve(resolver, "name.test")


class Fallback:
    async def resolve(self, name: str, port: int) -> tuple[Any, ...]:
        raise ResolutionFailed(f"asked for {name}:{port}")


def test_a_pinned_name_has_its_pins_and_no_other_name_has() -> None:
    pins = parse_pins(["api.example.test=127.0.0.1", "api.example.test=::1", "b.test=192.0.2.1", "b.test=192.0.2.1"])
    resolver = PinnedResolver(pins, Fallback())
    assert resolve(resolver, "api.example.test") == ["127.0.0.1", "::1"]
    assert resolve(resolver, "b.test") == ["192.0.2.1"]
    with pytest.raises(ResolutionFailed, match=r"asked for sub\.b\.test:443"):
        resolve(resolver, "sub.b.test")


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        pytest.param("api.example.test=127.0.0.1", "api.example.test", "127.0.0.1", id="as documented"),
        pytest.param("API.Example.TEST.=127.0.0.1", "api.example.test", "127.0.0.1", id="the name is canonicalised"),
        pytest.param("bücher.test=192.0.2.1", "xn--bcher-kva.test", "192.0.2.1", id="also an international one"),
        pytest.param("a.test=2001:db8::1", "a.test", "2001:db8::1", id="IPv6"),
        pytest.param("a.test=[2001:db8::1]", "a.test", "2001:db8::1", id="IPv6 in brackets"),
        pytest.param("a.test= 192.0.2.1", "a.test", "192.0.2.1", id="a space before the address"),
        pytest.param("localhost=127.0.0.2", "localhost", "127.0.0.2", id="localhost"),
    ],
)
def test_a_pin(text: str, name: str, address: str) -> None:
    assert parse_pin(text) == (name, ip_address(address))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("a.test", "an address is missing", id="no address"),
        pytest.param("a.test=", "'' does not appear to be an IPv4 or IPv6 address", id="an empty address"),
        pytest.param("=192.0.2.1", "host is empty", id="no name"),
        pytest.param("a.test=b.test", "'b.test' does not appear to be an IPv4 or IPv6 address", id="a name for a name"),
        pytest.param("a.test=127.1", "'127.1' does not appear to be an IPv4 or IPv6 address", id="a short spelling"),
        pytest.param(
            "a.test:443:192.0.2.1", "host is not a valid IPv6 address", id="curl's form, which has the port inside"
        ),
        pytest.param("192.0.2.1=192.0.2.2", "an address is never looked up", id="a literal for a name"),
        pytest.param("2130706433=192.0.2.2", "an address is never looked up", id="a literal in disguise"),
        pytest.param("*.a.test=192.0.2.1", "host has a character", id="a pattern"),
    ],
)
def test_what_is_no_pin_says_what_to_write(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="--resolve") as refused:
        parse_pin(text)
    message = str(refused.value)
    assert message.startswith(f"--resolve {text!r}: ")
    assert complaint in message
    assert message.endswith("; write NAME=ADDRESS, such as api.example.com=127.0.0.1")


def test_a_scoped_answer_is_an_address_like_any_other(make: Make) -> None:
    (found,) = run(_resolve(make(FakeSystem(name=[v6("fe80::1", 3)])), "name.test"))
    assert isinstance(found, IPv6Address)
    assert (found.scope_id, found.is_link_local) == ("3", True)
