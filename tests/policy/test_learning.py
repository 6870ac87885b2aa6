"""A proposed allowlist: exactly what was seen, and what of the present list it does without."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from codex_network_proxy.policy.decision import Decision, DecisionSource, NetworkProtocol
from codex_network_proxy.policy.domains import parse_pattern
from codex_network_proxy.policy.history import History, PastRequest
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.learning import Lesson, group_of, learn


def past(target: str, reason: str = "allow", method: str | None = "CONNECT", time: str = "2026-01-01") -> PastRequest:
    decision = Decision.ALLOW if reason == "allow" else Decision.DENY
    source = DecisionSource.BASELINE_POLICY
    return PastRequest(time, NetworkProtocol.HTTPS_CONNECT, parse_endpoint(target), method, decision, reason, source)


def lesson(requests: Iterable[PastRequest], *patterns: str) -> Lesson:
    return learn(History(tuple(requests)), map(parse_pattern, patterns))


def proposed(found: Lesson) -> dict[str, list[str]]:
    return {name: [str(one.target) for one in targets] for name, targets in found.groups}


def test_the_tightest_list_names_each_host_and_port_once() -> None:
    requests = [past("b.a.test:443"), past("a.test:80"), past("b.a.test:443"), past("b.a.test:22")]
    assert proposed(lesson(requests)) == {"a.test": ["a.test:80", "b.a.test:22", "b.a.test:443"]}


@pytest.mark.parametrize(
    ("reasons", "wanted"),
    [
        pytest.param(("allow",), True, id="what was let through is wanted"),
        pytest.param(("not_allowed",), True, id="what the allowlist missed is wanted"),
        pytest.param(("method_not_allowed", "allow"), True, id="a host that was let through once is wanted"),
        pytest.param(("denied",), False, id="what is denied is not proposed"),
        pytest.param(("not_allowed_local",), False, id="a local address is not proposed"),
        pytest.param(("policy_denied",), False, id="what a decider refused is not proposed"),
    ],
)
def test_only_misses_and_passes_are_proposed(reasons: tuple[str, ...], wanted: bool) -> None:
    found = lesson([past("a.test:443", reason) for reason in reasons])
    assert bool(found.groups) is wanted
    assert [str(one.target) for one in found.left_out] == ([] if wanted else ["a.test:443"])


def test_a_name_that_never_exists_is_not_worth_a_word() -> None:
    found = lesson([past("canary-1.invalid:80", "not_allowed"), past("invalid.test:80", "denied")])
    assert (found.groups, [str(one.target) for one in found.left_out]) == ((), ["invalid.test:80"])


def test_a_target_tells_how_often_how_and_when() -> None:
    found = lesson(
        [
            past("a.test:443", time="2026-01-02"),
            past("a.test:443", method="POST", time="2026-01-03"),
            past("a.test:443", "not_allowed", method=None, time="2026-01-01"),
        ]
    )
    ((_, (one,)),) = found.groups
    assert (one.allowed, one.blocked, one.methods) == (2, 1, {"POST"})
    assert (one.last, one.reason) == ("2026-01-03", "not_allowed")


@pytest.mark.parametrize(
    ("target", "group"),
    [
        pytest.param("x.y.example.com:443", "example.com", id="two labels"),
        pytest.param("www.shop.example.co.uk:443", "example.co.uk", id="three below a registry"),
        pytest.param("me.github.io:443", "me.github.io", id="three where strangers get names"),
        pytest.param("github.io:443", "github.io", id="the shared suffix itself"),
        pytest.param("localhost:80", "localhost", id="one label"),
        pytest.param("192.0.2.1:80", "addresses", id="an address"),
    ],
)
def test_hosts_are_grouped_by_domain(target: str, group: str) -> None:
    assert group_of(parse_endpoint(target)) == group


def test_entries_that_nothing_needed_are_named() -> None:
    found = lesson([past("x.a.test:443"), past("b.test:443")], "*.a.test", "b.test", "c.test", "b.test:80")
    assert [pattern.text for pattern in found.unused] == ["c.test", "b.test:80"]


@pytest.mark.parametrize(
    ("patterns", "pairs"),
    [
        pytest.param(("a.test", "b.test"), [], id="different hosts"),
        pytest.param(("x.a.test", "*.a.test"), [("x.a.test", "*.a.test")], id="a subdomain"),
        pytest.param(("a.test:443", "a.test"), [("a.test:443", "a.test")], id="a port of an entry for every port"),
        pytest.param(("a.test", "a.test:443"), [("a.test:443", "a.test")], id="whatever the order"),
        pytest.param(("*.a.test", "**.a.test"), [("*.a.test", "**.a.test")], id="a wildcard in a wider one"),
        pytest.param(("10.0.0.0/8", "10.1.0.0/16"), [("10.1.0.0/16", "10.0.0.0/8")], id="a range in a range"),
        pytest.param(("10.1.2.3", "10.0.0.0/8"), [("10.1.2.3", "10.0.0.0/8")], id="an address in a range"),
        pytest.param(("a.test", "A.test."), [], id="the same entry twice is one"),
    ],
)
def test_entries_that_another_covers_are_named(patterns: tuple[str, ...], pairs: list[tuple[str, str]]) -> None:
    assert [(one.text, other.text) for one, other in lesson([], *patterns).shadowed] == pairs
