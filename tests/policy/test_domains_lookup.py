"""The look-up in a list of patterns: the answers of trying each one, at a cost that does not grow (spec A2.2)."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_network_proxy.policy.domains import DomainPattern, PatternKind, PatternSet, parse_pattern
from codex_network_proxy.policy.hosts import Endpoint, parse_endpoint, parse_host

NAME_ENTRIES = [
    *("a.test", "b.a.test", "*.a.test", "**.b.test", "a*.test.b", "*a.b.test", "a*b.a.test", "b.a*.test.b"),
    *("a*.b*.test.b", "**.test.a", "*.b", "b.b:80", "*.b.b:80", "a*.b.b:80", "a*b*a.test.a"),
]


def obvious(pattern: DomainPattern, name: str, port: int) -> bool:
    body = re.escape(pattern.name).replace(r"\*", r"[^.]*")
    prefix = {PatternKind.SUBDOMAINS: r"(.+\.)", PatternKind.TREE: r"(.+\.)?"}.get(pattern.kind, "")
    return pattern.port in (None, port) and re.fullmatch(prefix + body, name) is not None


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(NAME_ENTRIES), max_size=6),
    st.lists(st.sampled_from(["a", "b", "ab", "aba", "test"]), min_size=1, max_size=4),
    st.sampled_from([80, 443]),
)
def test_the_lookup_agrees_with_trying_each_pattern(entries: list[str], labels: list[str], port: int) -> None:
    listed, name = PatternSet(map(parse_pattern, entries)), ".".join(labels)
    found = listed.match(parse_host(name), port)
    matching = [pattern for pattern in listed if obvious(pattern, name, port)]
    assert (found in matching) if matching else found is None


def lines_executed(action: Callable[[], object]) -> int:
    """How many lines of Python run. A look-up that walks the list runs more of them when the list grows."""
    count = 0

    def trace(_frame: FrameType, event: str, _arg: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    gc.disable()  # others watch the collector with callbacks, whose lines would count
    sys.settrace(trace)  # type: ignore[arg-type]  # a simpler tracer will do
    try:
        action()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def many(number: int) -> Iterator[str]:
    """`number` patterns of each kind, all of the same shape."""
    for at in range(100_000, 100_000 + number):
        yield f"h{at}.example.com"
        yield f"*.s{at}.example.com"
        yield f"**.t{at}.example.com:443"
        yield f"r{at}*.v2.example.com"
        yield f"h{at}.r*.v2.example.com"
        yield f"10.{at % 256}.{at // 256 % 256}.0/24"
        yield f"fd00::{at % 65536:x}"


@pytest.fixture(scope="module")
def few() -> PatternSet:
    return PatternSet(map(parse_pattern, many(2)))


@pytest.fixture(scope="module")
def lots() -> PatternSet:
    return PatternSet(map(parse_pattern, many(15_000)))


ASKED = [
    pytest.param("h100001.example.com:443", "h100001.example.com", id="an exact hit"),
    pytest.param("a.b.s100001.example.com:443", "*.s100001.example.com", id="a suffix hit"),
    pytest.param("t100001.example.com:443", "**.t100001.example.com:443", id="a tree hit"),
    pytest.param("r100001-eu.v2.example.com:443", "r100001*.v2.example.com", id="a hit with a star in a label"),
    pytest.param("h100001.r7.v2.example.com:443", "h100001.r*.v2.example.com", id="a hit left of a starred label"),
    pytest.param("10.161.134.9:443", "10.161.134.0/24", id="a CIDR hit"),
    pytest.param("[fd00::86a1]:443", "fd00::86a1", id="an address hit"),
    pytest.param("missing.example.com:443", None, id="a miss under a common suffix"),
    pytest.param("x100001.v2.example.com:443", None, id="a miss next to starred labels"),
    pytest.param("missing.test:80", None, id="a miss on another port"),
    pytest.param("8.8.8.8:443", None, id="an address miss"),
    pytest.param("[2606:4700::1]:443", None, id="an IPv6 miss"),
]


def costs(listed: PatternSet, target: Endpoint) -> list[int]:
    host, port = target.host, target.port
    return [
        lines_executed(lambda: listed.match(host, port)),
        lines_executed(lambda: listed.match_deny(host, port)),
        lines_executed(lambda: listed.literal_entry(host, port)),
        lines_executed(lambda: host.address and listed.match_address(host.address, port)),
    ]


@pytest.mark.parametrize(("target", "expected"), ASKED)
def test_a_hundred_thousand_patterns_cost_what_ten_cost(
    few: PatternSet, lots: PatternSet, target: str, expected: str | None
) -> None:
    endpoint = parse_endpoint(target)
    found = lots.match(endpoint.host, endpoint.port)
    assert (found and found.text) == expected
    assert len(lots) > 100_000
    assert costs(lots, endpoint) == costs(few, endpoint)


def test_the_cost_of_a_walk_over_the_list_would_be_seen(few: PatternSet, lots: PatternSet) -> None:
    def walk(listed: PatternSet) -> bool:
        return any(pattern.text == "missing.test" for pattern in listed)

    assert lines_executed(lambda: walk(lots)) > len(lots) > lines_executed(lambda: walk(few))
