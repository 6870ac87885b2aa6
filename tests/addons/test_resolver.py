from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest

from codex_network_proxy.policy.errors import ResolutionFailed

from .resolver_kit import FakeSystem, FakeTime, Make, _resolve, hosts_file, resolve, resolvers, run, v4, v6


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    return hosts_file(tmp_path)


@pytest.fixture
def make(hosts: Path) -> Iterator[Make]:
    with resolvers(hosts) as make:
        yield make


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


def test_a_scoped_answer_is_an_address_like_any_other(make: Make) -> None:
    (found,) = run(_resolve(make(FakeSystem(name=[v6("fe80::1", 3)])), "name.test"))
    assert isinstance(found, IPv6Address)
    assert (found.scope_id, found.is_link_local) == ("3", True)
