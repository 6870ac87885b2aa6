"""The table at the end of a run: every kind of block, and the smallest rule that would let it pass."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.decision import (
    Blocked,
    Decision,
    DecisionSource,
    HttpUse,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
)
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.scripts.run_report import SHOWN, Block, Blocks, describe


def blocked(target: str, reason: str, rule: str | None = None, method: str = "POST") -> Blocked:
    ruling = Ruling(Decision.DENY, reason, DecisionSource.BASELINE_POLICY, PolicyScope.DOMAIN, rule)
    request = NetworkPolicyRequest(NetworkProtocol.HTTP, parse_endpoint(target), HttpUse(method), method)
    return Blocked("id-1", request, (ruling,))


ROWS = [
    pytest.param(
        blocked("a.test:443", "not_allowed"),
        Block("a.test:443", "not in allowed_domains", "--allow a.test:443"),
        id="not allowed",
    ),
    pytest.param(
        blocked("[2001:db8::1]:443", "not_allowed"),
        Block("[2001:db8::1]:443", "not in allowed_domains", "--allow [2001:db8::1]:443"),
        id="an address that is not allowed",
    ),
    pytest.param(
        blocked("x.a.test:443", "denied", "*.a.test"),
        Block("x.a.test:443", 'denied_domains has "*.a.test"', 'remove "*.a.test" from denied_domains'),
        id="denied",
    ),
    pytest.param(
        blocked("10.0.0.5:80", "not_allowed_local"),
        Block("10.0.0.5:80", "a local address", "--allow 10.0.0.5:80"),
        id="a local address",
    ),
    pytest.param(
        blocked("localhost:80", "not_allowed_local"),
        Block("localhost:80", "a local address", "--allow localhost:80"),
        id="this machine",
    ),
    pytest.param(
        blocked("a.test:80", "not_allowed_local"),
        Block("a.test:80", "resolves to a local address", "allow_local_binding = true"),
        id="a name that leads there",
    ),
    pytest.param(
        blocked("a.test:80", "method_not_allowed", method="PO\x1bST"),
        Block("a.test:80", r"limited mode, PO\x1bST may write", 'mode = "full"'),
        id="a method",
    ),
    pytest.param(
        blocked("a.test:80", "mitm_required"),
        Block("a.test:80", "has to be read", "mitm = true, and https://"),
        id="what must be read",
    ),
    pytest.param(
        blocked("a.test:443", "mitm_hook_denied"),
        Block("a.test:443", "no hook matches this POST", "a hook for a.test"),
        id="no hook",
    ),
    pytest.param(
        blocked("a.test:443", "policy_denied"),
        Block("a.test:443", "policy_denied", "see the audit log"),
        id="anything else",
    ),
]


@pytest.mark.parametrize(("verdict", "expected"), ROWS)
def test_a_block(verdict: Blocked, expected: Block) -> None:
    assert describe(verdict) == expected


def counted(*verdicts: Blocked) -> Blocks:
    blocks = Blocks("canary.invalid")
    for verdict in verdicts:
        blocks.seen(verdict, BlockedRequest.of(verdict, "full", 0))
    return blocks


def test_the_table_counts_and_sorts() -> None:
    often, once = blocked("often.test:443", "not_allowed"), blocked("a.test:80", "not_allowed_local")
    assert list(counted(once, *[often] * 10).report()) == [
        "codex-proxy: 11 blocked; what would allow it stands on the right",
        "  10x  often.test:443  not in allowed_domains       --allow often.test:443",
        "   1x  a.test:80       resolves to a local address  allow_local_binding = true",
    ]


def test_without_a_block_there_is_no_table() -> None:
    assert list(counted().report()) == []


def test_a_long_table_is_cut() -> None:
    lines = list(counted(*(blocked(f"n{number}.test:80", "not_allowed") for number in range(SHOWN + 5))).report())
    assert len(lines) == SHOWN + 2
    assert lines[-1] == "  and 5 others, see the audit log"


def test_the_try_of_the_fence_is_no_block_of_the_command() -> None:
    blocks = counted(blocked("canary.invalid:80", "not_allowed"))
    assert list(blocks.report()) == []
    assert blocks.canary_id == "id-1"
