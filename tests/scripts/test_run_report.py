"""The table at the end of a run: every kind of block, and the smallest rule that would let it pass."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.config import load_with_origins
from codex_network_proxy.policy.decision import (
    Blocked,
    Decision,
    DecisionSource,
    HttpUse,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
    Tunnel,
)
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.scripts.run_report import SHOWN, WIDEST, Block, Blocks, describe, smallest_rule


def request(target: str, method: str = "POST") -> NetworkPolicyRequest:
    return NetworkPolicyRequest(NetworkProtocol.HTTP, parse_endpoint(target), HttpUse(method), method)


def blocked(target: str, reason: str, rule: str | None = None, method: str = "POST") -> Blocked:
    ruling = Ruling(Decision.DENY, reason, DecisionSource.BASELINE_POLICY, PolicyScope.DOMAIN, rule)
    return Blocked("id-1", request(target, method), (ruling,))


def over_socks(verdict: Blocked) -> Blocked:
    asked = replace(verdict.request, protocol=NetworkProtocol.SOCKS5_TCP, method=None, use=Tunnel())
    return replace(verdict, request=asked)


ROWS = [
    pytest.param(blocked("a.test:443", "not_allowed"), "not in allowed_domains", id="not allowed"),
    pytest.param(blocked("x.a.test:1", "denied", "*.a.test"), 'denied_domains has "*.a.test"', id="denied"),
    pytest.param(blocked("10.0.0.5:80", "not_allowed_local"), "a local address", id="a local address"),
    pytest.param(blocked("localhost:80", "not_allowed_local"), "a local address", id="this machine"),
    pytest.param(
        blocked("a.test:80", "not_allowed_local"), "resolves to a local address", id="a name that leads there"
    ),
    pytest.param(
        blocked("a.test:80", "method_not_allowed", method="PO\x1bST"),
        r"limited mode, PO\x1bST may write",
        id="a method",
    ),
    pytest.param(
        over_socks(blocked("a.test:22", "method_not_allowed")),
        "limited mode passes no SOCKS5",
        id="SOCKS5, which has no methods",
    ),
    pytest.param(blocked("a.test:80", "mitm_required"), "has to be read", id="what must be read"),
    pytest.param(blocked("a.test:443", "mitm_hook_denied"), "no hook matches this POST", id="no hook"),
    pytest.param(blocked("a.test:443", "policy\n_denied"), r"policy\n_denied", id="anything else"),
]


@pytest.mark.parametrize(("verdict", "why"), ROWS)
def test_a_block_in_a_few_words(verdict: Blocked, why: str) -> None:
    assert describe(verdict) == Block(str(verdict.request.target), why)


FILE = """default_permissions = "p"
[permissions.p.network]
enabled = true
mode = "limited"
allowed_domains = ["a.test", "*.b.test", "hooked.test"]
denied_domains = ["x.b.test"]
mitm = true
[[permissions.p.network.mitm_hooks]]
host = "hooked.test"
match = { methods = ["GET"], path_prefixes = ["/"] }
"""
RULES = [
    pytest.param(
        blocked("c.test:443", "not_allowed"),
        False,
        'add "c.test:443" to allowed_domains; write mode = "full" (config.toml:4)',
        id="two things stand in the way",
    ),
    pytest.param(blocked("c.test:443", "not_allowed", method="GET"), False, "--allow c.test:443", id="not allowed"),
    pytest.param(blocked("[2001:db8::1]:443", "not_allowed"), True, "--allow [2001:db8::1]:443", id="an address"),
    pytest.param(
        blocked("10.0.0.5:80", "not_allowed_local", method="GET"), False, "--allow 10.0.0.5:80", id="a local address"
    ),
    pytest.param(
        blocked("a.test:80", "not_allowed_local", method="GET"),
        False,
        "allow_local_binding = true",
        id="a name for one",
    ),
    pytest.param(
        blocked("x.b.test:80", "denied", "x.b.test", method="GET"),
        False,
        'remove "x.b.test" from denied_domains (config.toml:6)',
        id="denied",
    ),
    pytest.param(
        blocked("a.test:80", "method_not_allowed"), False, 'write mode = "full" (config.toml:4)', id="the file's mode"
    ),
    pytest.param(
        blocked("a.test:80", "method_not_allowed"), True, "run it without --mode limited", id="the option's mode"
    ),
    pytest.param(
        blocked("hooked.test:80", "mitm_required", method="GET"),
        False,
        "plain HTTP to a host with hooks never passes; use https://",
        id="what never passes",
    ),
    pytest.param(
        blocked("a.test:80", "denied", "a.test", method="GET"), False, "nothing any more", id="the file has changed"
    ),
]


@pytest.mark.parametrize(("verdict", "limited", "rule"), RULES)
def test_the_smallest_rule(verdict: Blocked, limited: bool, rule: str) -> None:
    loaded, origins = load_with_origins(FILE, file="config.toml")
    assert asyncio.run(smallest_rule(verdict, loaded.settings, origins, limited=limited)) == rule


def counted(*verdicts: Blocked) -> Blocks:
    blocks = Blocks("canary.invalid")
    for verdict in verdicts:
        blocks.seen(verdict, BlockedRequest.of(verdict, "full", 0))
    return blocks


def lines(blocks: Blocks) -> list[str]:
    async def rule(verdict: Blocked) -> str:
        return f"mend {verdict.request.host}"

    return asyncio.run(blocks.report(rule))


def test_the_table_counts_and_sorts() -> None:
    often, once = blocked("often.test:443", "not_allowed"), blocked("a.test:80", "not_allowed_local")
    assert lines(counted(once, *[often] * 10)) == [
        "codex-proxy: 11 blocked; what would allow it stands on the right",
        "  10x  often.test:443  not in allowed_domains       mend often.test",
        "   1x  a.test:80       resolves to a local address  mend a.test",
    ]


def test_without_a_block_there_is_no_table() -> None:
    assert lines(counted()) == []


def test_a_long_table_is_cut() -> None:
    found = lines(counted(*(blocked(f"n{number}.test:80", "not_allowed") for number in range(SHOWN + 5))))
    assert len(found) == SHOWN + 2
    assert found[-1] == "  and 5 others, see the audit log"


def test_a_long_name_moves_its_own_line_only() -> None:
    long = ".".join(["a" * 60] * 3) + ".test:80"
    _, first, second = lines(counted(blocked(long, "not_allowed"), blocked("b.test:80", "not_allowed")))
    assert first == f"  1x  {long}  not in allowed_domains  mend {long.removesuffix(':80')}"
    assert second == f"  1x  {'b.test:80':<{WIDEST}}  not in allowed_domains  mend b.test"


def test_what_was_allowed_and_failed_has_a_table_of_its_own() -> None:
    blocks = counted(blocked("a.test:80", "not_allowed"))
    for _ in range(2):
        blocks.failed(request("down.test:443"), "upstream failure: connection refused")
    blocks.failed(request("gone.test:443"), "could not resolve gone.test")
    assert lines(blocks) == [
        "codex-proxy: 1 blocked; what would allow it stands on the right",
        "  1x  a.test:80  not in allowed_domains  mend a.test",
        "codex-proxy: 3 allowed and failed (502), for which no rule is to blame",
        "  2x  down.test:443  connection refused",
        "  1x  gone.test:443  could not resolve gone.test",
    ]


def test_a_long_table_of_failures_is_cut_as_well() -> None:
    blocks = counted()
    for number in range(SHOWN + 1):
        blocks.failed(request(f"n{number}.test:80"), "upstream failure: connection timed out")
    found = lines(blocks)
    assert len(found) == SHOWN + 2
    assert found[-1] == "  and 1 other, see the audit log"


def test_a_socket_that_failed_has_its_path() -> None:
    blocks = counted()
    blocks.failed(
        replace(request("unix-socket:1"), socket_path="/run/a\x1b.sock"), "upstream failure: connection refused"
    )
    assert lines(blocks)[1] == r"  1x  /run/a\x1b.sock  connection refused"


def test_the_try_of_the_fence_is_no_block_of_the_command() -> None:
    blocks = counted(blocked("canary.invalid:80", "not_allowed"))
    assert lines(blocks) == []
    assert blocks.canary_id == "id-1"
