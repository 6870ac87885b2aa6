"""An explanation is a decision like any other, its grounds, and changes that were tried and turn it around."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import pytest

from codex_network_proxy.policy.constraints import Constraints
from codex_network_proxy.policy.decision import Allowed, Blocked, NetworkPolicyRequest, NetworkProtocol, Verdict
from codex_network_proxy.policy.engine import NetworkPolicy, decide, judge_host
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.inquiry import questions
from codex_network_proxy.policy.overlays import ManagedPolicy
from codex_network_proxy.policy.settings import NetworkSettings

from .explanations import HOOK, LIMITED, LISTS, MITM, NAMES, ONE_HOOK, a_world, explained, reason

ROWS = [
    pytest.param(
        "listed.test", LISTS, "allow", ['remove "listed.test" from allowed_domains (c.toml:5)'], id="the entry goes"
    ),
    pytest.param(
        "a.wide.test:80",
        LISTS.replace('"listed.test"', '"listed.test", "a.wide.test"'),
        "allow",
        ['add "a.wide.test:80" to denied_domains'],
        id="where another entry would do, a denial comes",
    ),
    pytest.param("other.test", LISTS, "not_allowed", ['add "other.test:443" to allowed_domains'], id="a host"),
    pytest.param(
        "b\u00fccher.test:80",
        LISTS,
        "not_allowed",
        ['add "xn--bcher-kva.test:80" to allowed_domains'],
        id="a host in canonical form",
    ),
    pytest.param(
        "evil.wide.test",
        LISTS,
        "denied",
        [
            'remove "evil.wide.test" from denied_domains (c.toml:8)',
            'remove "**.evil.wide.test" from denied_domains (c.toml:8)',
        ],
        id="a host that is denied twice",
    ),
    pytest.param(
        "deniedrange.wide.test",
        LISTS,
        "denied",
        ['remove "10.9.0.0/16" from denied_domains (c.toml:9)', "write allow_local_binding = true"],
        id="an address that is denied, and private",
    ),
    pytest.param(
        "10.9.0.1",
        LISTS,
        "denied",
        ['remove "10.9.0.0/16" from denied_domains (c.toml:9)', 'add "10.9.0.1:443" to allowed_domains'],
        id="a literal that is denied, and private",
    ),
    pytest.param("[::1]:80", LISTS, "not_allowed_local", ['add "[::1]:80" to allowed_domains'], id="a local literal"),
    pytest.param(
        "localhost:80", LISTS, "not_allowed_local", ['add "localhost:80" to allowed_domains'], id="this machine"
    ),
    pytest.param(
        "169.254.169.254:80",
        LISTS,
        "not_allowed_local",
        ['add "169.254.169.254:80" to allowed_domains'],
        id="a metadata literal",
    ),
    pytest.param(
        "private.test",
        LISTS + "allow_local_binding = false\n",
        "not_allowed_local",
        ["write allow_local_binding = true (c.toml:10)"],
        id="a name that is private, at the place where the file says so",
    ),
    pytest.param(
        "listed.test",
        LISTS.replace("true", "false"),
        "proxy_disabled",
        ["write enabled = true (c.toml:4)"],
        id="a disabled proxy",
    ),
    pytest.param(
        "http://listed.test/",
        LIMITED,
        "allow",
        ['remove "listed.test" from allowed_domains (c.toml:5)'],
        id="a read in limited mode",
    ),
    pytest.param(
        "ws://listed.test/", LIMITED, "method_not_allowed", ['write mode = "full" (c.toml:10)'], id="a WebSocket"
    ),
    pytest.param("listed.test", LIMITED, "mitm_required", ["write mitm = true"], id="a tunnel in limited mode"),
    pytest.param(
        "http://other.test/",
        LIMITED.replace("true", "false"),
        "proxy_disabled",
        ["write enabled = true (c.toml:4)", 'add "other.test:80" to allowed_domains'],
        id="two changes that are needed together",
    ),
    pytest.param(
        "https://hooked.test/repos/x?state=open",
        LISTS + HOOK,
        "mitm_required",
        ["write mitm = true"],
        id="a hooked host without interception",
    ),
    pytest.param(
        "https://hooked.test/other/x",
        MITM + HOOK,
        "allow",
        ['remove "hooked.test" from allowed_domains (c.toml:6)'],
        id="a request that a hook lets pass",
    ),
    pytest.param(
        "https://hooked.test/repos/x?state=closed",
        MITM + HOOK,
        "mitm_hook_denied",
        ['add "pattern:/repos/x" to the path_prefixes of mitm_hooks[1] (c.toml:15)'],
        id="the hook that one entry more is enough for",
    ),
    pytest.param(
        "https://hooked.test/a*b",
        MITM + HOOK,
        "mitm_hook_denied",
        ['add "/a*b" to the path_prefixes of mitm_hooks[1] (c.toml:15)'],
        id="a path that is no pattern",
    ),
    pytest.param(
        "https://hooked.test//a",
        MITM + HOOK,
        "mitm_hook_denied",
        ['add "//a" to the path_prefixes of mitm_hooks[1] (c.toml:15)'],
        id="a path that no pattern matches",
    ),
]


@pytest.mark.parametrize(("text", "table", "why", "changes"), ROWS)
def test_the_decision_and_the_smallest_change(text: str, table: str, why: str, changes: list[str]) -> None:
    explanation = explained(text, table)
    assert reason(explanation) == why
    assert list(explanation.remedy.changes) == changes
    assert explanation.remedy.obstacle is None
    assert explanation.remedy.settings is not None
    after = asyncio.run(_as_a_client(questions(text), explanation.remedy.settings))
    assert isinstance(after, Blocked) is (why == "allow"), "the changes turn it around"


async def _as_a_client(asked: Sequence[NetworkPolicyRequest], settings: NetworkSettings) -> Verdict:
    """The last answer a client gets that stops at the first no, decided as the proxy decides."""
    policy, world = NetworkPolicy.compile(settings), replace(a_world(), decider=None)
    verdict = await decide(policy, asked[0], world)
    if isinstance(verdict, Allowed) and verdict.inspect and len(asked) > 1:
        return await decide(policy, asked[1], world)
    return verdict


def test_a_method_that_no_hook_has() -> None:
    explanation = explained("https://hooked.test/other/x", MITM + HOOK, method="DELETE")
    assert explanation.remedy.changes == ('add "DELETE" to the methods of mitm_hooks[1] (c.toml:15)',)
    both = explained("https://hooked.test/x", MITM + HOOK, method="DELETE")
    assert both.remedy.changes == (
        'add "DELETE" to the methods, and "pattern:/x" to the path_prefixes of mitm_hooks[1] (c.toml:15)',
    )


UDP = NetworkProtocol.SOCKS5_UDP


@dataclass(frozen=True)
class Nothing:
    """A request that no change of the configuration lets pass."""

    text: str
    table: str
    why: str
    obstacle: str
    protocol: NetworkProtocol | None = None


HOPELESS = {
    "the proxy itself, by name": Nothing(
        "self.wide.test:3128", LISTS, "not_allowed_local", "the proxy never connects to itself"
    ),
    "the proxy itself": Nothing("127.0.0.1:3128", LISTS, "not_allowed_local", "the proxy never connects to itself"),
    "a name of a metadata address": Nothing(
        "metadata.test",
        LISTS,
        "not_allowed_local",
        "a name never leads to metadata addresses; list the address itself, and ask for that",
    ),
    "plain HTTP to a hooked host": Nothing(
        "http://hooked.test/repos/x",
        MITM + HOOK,
        "mitm_required",
        "plain HTTP to a host with hooks never passes; use https://",
    ),
    "a datagram to a hooked host": Nothing(
        "hooked.test", MITM + HOOK, "mitm_required", "datagrams to a host with hooks never pass; use HTTPS", UDP
    ),
    "a path with two readings": Nothing(
        "https://hooked.test/repos/../x",
        MITM + HOOK,
        "mitm_hook_denied",
        "no hook matches this path: dot segments, and escaped slashes and controls, have two readings",
    ),
    "a query that no hook lets pass": Nothing(
        "https://hooked.test/repos/x?state=closed",
        MITM + ONE_HOOK + ONE_HOOK.replace("hooked", "a.hooked"),
        "mitm_hook_denied",
        "no further method or path of a hook helps; look at its query and headers, or add a hook",
    ),
    "a host that is denied over and over": Nothing(
        "a.b.c.d.e.f.g.h.test",
        "enabled = true\ndenied_domains = [" + ", ".join(f"'**.{'.'.join('abcdefgh'[n:])}.test'" for n in range(8))
        + ", '*.test']\n",
        "denied",
        "no 8 changes let it pass",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", HOPELESS.values(), ids=HOPELESS.keys())
def test_what_no_change_lets_pass(row: Nothing) -> None:
    explanation = explained(row.text, row.table, protocol=row.protocol)
    assert reason(explanation) == row.why
    assert explanation.remedy.changes == ()
    assert explanation.remedy.obstacle == row.obstacle


def test_localhost_that_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NAMES, "localhost", "10.0.0.1")
    explanation = explained("localhost:80", LISTS + "allow_local_binding = true\n".replace("true", "false"))
    assert explanation.remedy.obstacle == (
        "a name never leads to other than loopback addresses; list the address itself, and ask for that"
    )


def test_a_name_without_an_address_is_allowed_and_cannot_be_reached() -> None:
    explanation = explained("unknown.wide.test")
    assert not explanation.allowed
    assert explanation.message == "The request is allowed, but the proxy could not resolve unknown.wide.test."
    assert explanation.remedy.obstacle == (
        "the name has no address; check its spelling, and the DNS servers of this machine"
    )
    assert (explanation.addresses, explanation.looked_up) == ((), True)


def test_a_refused_name_without_an_address_needs_only_its_entry() -> None:
    explanation = explained("unknown.test")
    assert explanation.remedy.changes == ('add "unknown.test:443" to allowed_domains',)


def test_a_change_beyond_the_constraints_says_so() -> None:
    bound = Constraints(allowed_domains=("**.wide.test", "*.test"), denied_domains=("evil.wide.test",))
    managed = ManagedPolicy(constraints=bound)
    denied = explained("evil.wide.test", managed=managed)
    assert denied.remedy.changes != ()
    assert denied.remedy.obstacle == (
        'invalid value for network.denied_domains: missing managed denied_domains entries (allowed ["evil.wide.test"])'
    )
    assert explained("other.test", managed=managed).remedy.obstacle is None
    assert explained("listed.test", managed=managed).remedy.obstacle is None


def test_a_block_by_something_unexpected_has_no_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    explanation = explained("10.9.0.1", LISTS)
    assert isinstance(explanation.verdict, Blocked)
    odd = replace(explanation.verdict.rulings[0], reason="policy_denied")
    monkeypatch.setattr("codex_network_proxy.policy.engine.judge_host", lru_cache(lambda policy, target: odd))
    assert explained("listed.test").remedy.obstacle == "a safety check failed; the log names it"


def test_no_policy_that_was_tried_is_remembered() -> None:
    explained("evil.wide.test")
    assert judge_host.cache_info().currsize == 0
    target = parse_endpoint("a.test:1")
    assert judge_host(NetworkPolicy.compile(NetworkSettings()), target) is None
