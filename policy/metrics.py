"""What a running proxy has done so far, counted; and the same as Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .audit import PolicyDecisionEvent
from .decision import ALLOW_REASON, BlockReason

OTHER_REASON = "other"
"""In place of a decider's own words: who asks must not be able to make up series without end."""

_REASONS = frozenset({ALLOW_REASON, *BlockReason})

Series = tuple[str, str, str]
"""Protocol, decision and reason of events that are counted together."""


@dataclass(slots=True)
class DecisionCounters:
    """Counts audit events since the start."""

    counts: Counter[Series] = field(default_factory=Counter)

    def add(self, event: PolicyDecisionEvent) -> None:
        reason = event.ruling.reason if event.ruling.reason in _REASONS else OTHER_REASON
        self.counts[event.protocol, event.ruling.decision, reason] += 1


@dataclass(frozen=True, slots=True)
class Gauges:
    """The present state, as numbers. `uptime` is in seconds."""

    policy_in_force: bool
    connections: int
    allowed_patterns: int
    denied_patterns: int
    blocked_total: int
    audit_dropped: int
    uptime: float


def prometheus_text(counts: Mapping[Series, int], gauges: Gauges) -> str:
    """The Prometheus text format, version 0.0.4. Labels are words of ours, never what a client sent."""
    return "".join(f"{line}\n" for line in (*_decisions(counts), *_state(gauges)))


def _decisions(counts: Mapping[Series, int]) -> Iterator[str]:
    name = "codex_proxy_decisions_total"
    yield from _head(name, "counter", "Policy decisions by protocol, decision and reason.")
    for (protocol, decision, reason), count in sorted(counts.items()):
        yield f'{name}{{protocol="{protocol}",decision="{decision}",reason="{reason}"}} {count}'


def _state(gauges: Gauges) -> Iterator[str]:
    in_force = "1, or 0 while a broken configuration refuses everything."
    rows = (
        ("codex_proxy_policy_in_force", "gauge", in_force, gauges.policy_in_force),
        ("codex_proxy_connections", "gauge", "Clients that are connected now.", gauges.connections),
        ("codex_proxy_allowed_patterns", "gauge", "Entries of the allowlist.", gauges.allowed_patterns),
        ("codex_proxy_denied_patterns", "gauge", "Entries of the denylist.", gauges.denied_patterns),
        ("codex_proxy_blocked_total", "counter", "Requests that were blocked.", gauges.blocked_total),
        ("codex_proxy_audit_dropped_total", "counter", "Audit events that were lost.", gauges.audit_dropped),
        ("codex_proxy_uptime_seconds", "gauge", "Seconds since the start.", gauges.uptime),
    )
    for name, kind, what, value in rows:
        yield from _head(name, kind, what)
        yield f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {int(value)}"


def _head(name: str, kind: str, what: str) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"
