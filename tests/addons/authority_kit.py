"""An authority, and a world around it that the test holds in its hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from codex_network_proxy.addons.authority import Authority, Surroundings
from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.decision import (
    IPAddress,
    NetworkDecision,
    NetworkPolicyRequest,
    NetworkProtocol,
    Tunnel,
    Use,
)
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.patterns import parse_pattern
from codex_network_proxy.policy.settings import NetworkSettings

PUBLIC = ip_address("93.184.216.34")


@dataclass
class FakeWorld:
    """Resolver, audit sink, clock and decider in one."""

    addresses: Sequence[IPAddress] | Exception = (PUBLIC,)
    events: list[PolicyDecisionEvent] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        self.looked_up.append(name)
        if isinstance(self.addresses, Exception):
            raise self.addresses
        return self.addresses

    def emit(self, event: PolicyDecisionEvent) -> None:
        self.events.append(event)

    def now(self) -> float:
        return 1_700_000_000.0

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        return NetworkDecision.allow() if request.host == "decided.test" else NetworkDecision.deny("no")

    def told(self) -> list[tuple[object, ...]]:
        return [
            (
                event.fields()["network.policy.scope"],
                event.fields()["network.policy.decision"],
                event.fields()["network.policy.reason"],
            )
            for event in self.events
        ]


def compile_policy(allowed: Sequence[str] = ("allowed.test",), **settings: object) -> NetworkPolicy:
    base = NetworkSettings(enabled=True, allowed=tuple(parse_pattern(text) for text in allowed))
    return NetworkPolicy.compile(replace(base, **settings))  # type: ignore[arg-type]  # rows name real fields


def make(world: FakeWorld, policy: NetworkPolicy | None = None) -> Authority:
    return Authority(policy or compile_policy(), Surroundings(world, world, world, decider=world))


def question(host: str = "allowed.test", use: Use | None = None) -> NetworkPolicyRequest:
    tunnel = use is None
    return NetworkPolicyRequest(
        NetworkProtocol.HTTPS_CONNECT if tunnel else NetworkProtocol.HTTP,
        parse_endpoint(host, 443),
        use or Tunnel(),
        "CONNECT" if tunnel else "POST",
        "127.0.0.1:5000",
    )


def decide(authority: Authority, request: NetworkPolicyRequest) -> object:
    return asyncio.run(authority.decide(request))
