"""An explanation is a decision like any other, its grounds, and changes that were tried and turn it around."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.config import load_with_origins
from codex_network_proxy.policy.constraints import Constraints
from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    IPAddress,
    NetworkDecision,
    NetworkPolicyRequest,
    NetworkProtocol,
    Verdict,
)
from codex_network_proxy.policy.engine import NetworkPolicy, World, decide, judge_host
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.explain import Explanation, explain
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.inquiry import questions
from codex_network_proxy.policy.origins import NO_ORIGINS
from codex_network_proxy.policy.overlays import UNMANAGED, ManagedPolicy
from codex_network_proxy.policy.settings import NetworkSettings
from codex_network_proxy.policy.upstream import read_routes

HEAD = """
default_permissions = "w"
[permissions.w.network]
"""
LISTS = """enabled = true
allowed_domains = ["listed.test", "*.wide.test", "private.test", "metadata.test",
  "hooked.test", "*.hooked.test"]
denied_domains = [
  "evil.wide.test", "**.evil.wide.test",
  "10.9.0.0/16"]
"""
ONE_HOOK = """
[[permissions.w.network.mitm_hooks]]
host = "hooked.test"
match = { methods = ["GET"], path_prefixes = ["/repos/"], query = { state = ["open"] } }
"""
HOOK = (
    ONE_HOOK
    + """[[permissions.w.network.mitm_hooks]]
host = "hooked.test"
match = { methods = ["GET"], path_prefixes = ["/other/"] }
"""
)
NAMES = {
    "private.test": "10.0.0.1",
    "metadata.test": "169.254.169.254",
    "deniedrange.wide.test": "10.9.0.1",
    "localhost": "127.0.0.1",
    "self.wide.test": "127.0.0.1",
}


class Names:
    """Knows every name but those with `unknown` in them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        self.asked.append(name)
        if "unknown" in name:
            raise ResolutionFailed(f"could not resolve {name}")
        return (ip_address(NAMES.get(name, "93.184.216.34")),)


class Nosy:
    async def ask(self, request: NetworkPolicyRequest) -> NetworkDecision:
        raise AssertionError("an explanation asks nobody")


def a_world(names: Names | None = None) -> World:
    return World(names or Names(), lambda: "id", lambda _, port: port == 3128, Nosy())


def explained(
    text: str,
    table: str = LISTS,
    names: Names | None = None,
    managed: ManagedPolicy = UNMANAGED,
    method: str | None = None,
    protocol: NetworkProtocol | None = None,
) -> Explanation:
    loaded, origins = load_with_origins(HEAD + table, file="c.toml")
    asked = questions(text, method=method, protocol=protocol)
    return asyncio.run(explain(asked, loaded.settings, a_world(names), origins, managed))


def reason(explanation: Explanation) -> str:
    return explanation.verdict.reason if isinstance(explanation.verdict, Blocked) else "allow"


LIMITED = LISTS + 'mode = "limited"\n'
MITM = LISTS + "mitm = true\n"
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


@pytest.mark.parametrize(
    ("text", "addresses", "looked_up"),
    [
        pytest.param("listed.test", [("93.184.216.34", "public")], True, id="an allowed name"),
        pytest.param("private.test", [("10.0.0.1", "private")], True, id="a name that is private"),
        pytest.param("other.test", [("93.184.216.34", "public")], False, id="a name the proxy refuses unseen"),
        pytest.param("127.0.0.1", [("127.0.0.1", "loopback")], True, id="a literal"),
    ],
)
def test_the_addresses_and_their_classes(text: str, addresses: list[tuple[str, str]], looked_up: bool) -> None:
    names = Names()
    explanation = explained(text, names=names)
    assert [(str(found.address), found.kind) for found in explanation.addresses] == addresses
    assert explanation.looked_up is looked_up
    assert len(names.asked) <= 1, "whatever is tried, each name is looked up once"


@pytest.mark.parametrize(
    ("text", "table", "grounds"),
    [
        pytest.param("a.wide.test", LISTS, [("allow", "*.wide.test", 5)], id="an entry of the allowlist"),
        pytest.param("evil.wide.test", LISTS, [("denied", "evil.wide.test", 8)], id="an entry of the denylist"),
        pytest.param("other.test", LISTS, [("not_allowed", None, None)], id="no entry at all"),
        pytest.param(
            "https://hooked.test/other/x",
            MITM + HOOK,
            [("allow", "hooked.test", 6), ("allow", "mitm_hooks[1]", 15)],
            id="an entry and a hook",
        ),
        pytest.param(
            "ws://listed.test/",
            LIMITED,
            [("allow", "listed.test", 5), ("method_not_allowed", None, None)],
            id="an entry and the mode",
        ),
    ],
)
def test_the_grounds_and_their_places(text: str, table: str, grounds: list[tuple[str, str | None, int | None]]) -> None:
    found = explained(text, table).grounds
    assert [(one.ruling.reason, one.ruling.rule, one.place and one.place.line) for one in found] == grounds


def test_what_comes_from_no_file_has_no_place() -> None:
    loaded, _ = load_with_origins(HEAD + LISTS, file="c.toml")
    for text, change in (
        ("listed.test", 'remove "listed.test" from allowed_domains'),
        ("evil.wide.test", 'remove "evil.wide.test" from denied_domains'),
    ):
        explanation = asyncio.run(explain(questions(text), loaded.settings, a_world(), NO_ORIGINS))
        assert explanation.grounds[0].place is None
        assert explanation.remedy.changes[0] == change


def test_an_entry_that_another_profile_brought_is_found_there() -> None:
    text = HEAD.replace('"w"', '"child"') + LISTS + "[permissions.child]\nextends = 'w'\n"
    loaded, origins = load_with_origins(text, file="c.toml")
    explanation = asyncio.run(explain(questions("listed.test"), loaded.settings, a_world(), origins))
    place = explanation.grounds[0].place
    assert place is not None
    assert (place.path, place.line) == ("permissions.w.network.allowed_domains[0]", 5)


def test_a_file_that_selects_nothing_has_no_places() -> None:
    loaded, origins = load_with_origins("[permissions.w.network]\nenabled = true", file="c.toml")
    explanation = asyncio.run(explain(questions("listed.test"), loaded.settings, a_world(), origins))
    assert explanation.remedy.changes == ("write enabled = true", 'add "listed.test:443" to allowed_domains')


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


def test_the_fields_of_a_block() -> None:
    fields = explained("evil.wide.test").fields()
    assert fields == {
        "host": "evil.wide.test",
        "port": 443,
        "protocol": "https_connect",
        "method": "CONNECT",
        "decision": "deny",
        "reason": "denied",
        "code": "blocked-by-denylist",
        "message": "Codex blocked this request: domain denied by policy.",
        "rulings": [
            {
                "decision": "deny",
                "reason": "denied",
                "source": "baseline_policy",
                "rule": "evil.wide.test",
                "file": "c.toml",
                "line": 8,
            }
        ],
        "addresses": [{"address": "93.184.216.34", "class": "public"}],
        "looked_up": False,
        "inspected": False,
        "changes": [
            'remove "evil.wide.test" from denied_domains (c.toml:8)',
            'remove "**.evil.wide.test" from denied_domains (c.toml:8)',
        ],
    }


def test_the_fields_of_a_request_through_an_upstream_proxy() -> None:
    loaded, origins = load_with_origins(HEAD + LISTS + "allow_local_binding = true\n", file="c.toml")
    routes, _ = read_routes({"HTTPS_PROXY": "http://me:canary@proxy.test:3129"})
    world = replace(a_world(), routes=routes)
    found = asyncio.run(explain(questions("listed.test"), loaded.settings, world, origins))
    fields = found.fields()
    assert fields["decision"] == "allow"
    assert fields["upstream"] == "http://proxy.test:3129"
    assert "canary" not in repr(fields)
    assert (found.message, fields["inspected"]) == ("The tunnel passes; the proxy does not read it.", False)
    read = explained("http://listed.test/")
    assert (read.message, read.fields()["inspected"]) == ("The request passes; the proxy reads it.", True)


def test_no_policy_that_was_tried_is_remembered() -> None:
    explained("evil.wide.test")
    assert judge_host.cache_info().currsize == 0
    target = parse_endpoint("a.test:1")
    assert judge_host(NetworkPolicy.compile(NetworkSettings()), target) is None
