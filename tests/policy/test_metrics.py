"""What has been decided so far, counted and as Prometheus reads it."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.decision import (
    Decision,
    DecisionSource,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
)
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.metrics import DecisionCounters, Gauges, prometheus_text

GAUGES = Gauges(
    policy_in_force=True,
    connections=3,
    allowed_patterns=2,
    denied_patterns=1,
    blocked_total=7,
    audit_dropped=0,
    uptime=1.5,
)


def event(reason: str, decision: Decision = Decision.DENY, host: str = "a.test:443") -> PolicyDecisionEvent:
    ruling = Ruling(decision, reason, DecisionSource.DECIDER, PolicyScope.DOMAIN)
    request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, parse_endpoint(host))
    return PolicyDecisionEvent.of(ruling, request, "id", 0)


@pytest.mark.parametrize(
    ("reason", "counted_as"),
    [
        pytest.param("not_allowed", "not_allowed", id="a reason of the policy"),
        pytest.param("allow", "allow", id="an allow"),
        pytest.param("because I say so", "other", id="a decider's own words"),
    ],
)
def test_events_are_counted_by_reason(reason: str, counted_as: str) -> None:
    counters = DecisionCounters()
    counters.add(event(reason, host="a.test:443"))
    counters.add(event(reason, host="b.test:443"))
    assert dict(counters.counts) == {("https_connect", "deny", counted_as): 2}


def test_prometheus_reads_counters_and_gauges() -> None:
    counters = DecisionCounters()
    counters.add(event("allow", Decision.ALLOW))
    assert prometheus_text(counters.counts, GAUGES).splitlines() == [
        "# HELP codex_proxy_decisions_total Policy decisions by protocol, decision and reason.",
        "# TYPE codex_proxy_decisions_total counter",
        'codex_proxy_decisions_total{protocol="https_connect",decision="allow",reason="allow"} 1',
        "# HELP codex_proxy_policy_in_force 1, or 0 while a broken configuration refuses everything.",
        "# TYPE codex_proxy_policy_in_force gauge",
        "codex_proxy_policy_in_force 1",
        "# HELP codex_proxy_connections Clients that are connected now.",
        "# TYPE codex_proxy_connections gauge",
        "codex_proxy_connections 3",
        "# HELP codex_proxy_allowed_patterns Entries of the allowlist.",
        "# TYPE codex_proxy_allowed_patterns gauge",
        "codex_proxy_allowed_patterns 2",
        "# HELP codex_proxy_denied_patterns Entries of the denylist.",
        "# TYPE codex_proxy_denied_patterns gauge",
        "codex_proxy_denied_patterns 1",
        "# HELP codex_proxy_blocked_total Requests that were blocked.",
        "# TYPE codex_proxy_blocked_total counter",
        "codex_proxy_blocked_total 7",
        "# HELP codex_proxy_audit_dropped_total Audit events that were lost.",
        "# TYPE codex_proxy_audit_dropped_total counter",
        "codex_proxy_audit_dropped_total 0",
        "# HELP codex_proxy_uptime_seconds Seconds since the start.",
        "# TYPE codex_proxy_uptime_seconds gauge",
        "codex_proxy_uptime_seconds 1.500",
    ]
