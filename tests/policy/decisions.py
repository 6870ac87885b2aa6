"""A policy and the world around it, in which every name of `NAMES` has an address."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from types import MappingProxyType

from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    IPAddress,
    NetworkDecision,
    NetworkPolicyRequest,
    NetworkProtocol,
    Tunnel,
    Unresolved,
    Use,
    Verdict,
)
from codex_network_proxy.policy.engine import NetworkPolicy, World, decide
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.hosts import parse_endpoint, parse_host
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.patterns import parse_pattern
from codex_network_proxy.policy.settings import HookSettings, NetworkSettings

ALLOW = NetworkDecision.allow()
LIMITED = {"mode": NetworkMode.LIMITED}
PUBLIC = "93.184.216.34"
NAMES: Mapping[str, tuple[str, ...]] = {
    "allowed.test": (PUBLIC,),
    "private.test": ("10.0.0.1",),
    "mixed.test": (PUBLIC, "10.0.0.1"),
    "mixed6.test": (PUBLIC, "fd00::1"),
    "metadata.test": ("169.254.169.254",),
    "loopback.test": ("127.0.0.1",),
    "hooked.test": (PUBLIC,),
    "translated.test": ("64:ff9b::7f00:1",),
    "listed.test": ("93.184.216.99",),
    "localhost": ("127.0.0.1", "::1"),
    "empty.test": (),
}


class RecordingResolver:
    def __init__(self, names: Mapping[str, tuple[str, ...]] = NAMES) -> None:
        self.names = names
        self.asked: list[str] = []

    async def resolve(self, name: str, port: int) -> tuple[IPAddress, ...]:
        self.asked.append(name)
        if name not in self.names:
            raise ResolutionFailed(f"could not resolve {name}")
        return tuple(ip_address(text) for text in self.names[name])


def compile_policy(
    allowed: tuple[str, ...] = ("allowed.test", "hooked.test"),
    denied: tuple[str, ...] = (),
    hooked: tuple[str, ...] = (),
    settings: Mapping[str, object] = MappingProxyType({}),
) -> NetworkPolicy:
    hooks = tuple(
        HookSettings(index=index, host=parse_host(host), methods=("POST",), path_prefixes=("/repos/",))
        for index, host in enumerate(hooked)
    )
    base = NetworkSettings(
        enabled=True,
        allowed=tuple(parse_pattern(text) for text in allowed),
        denied=tuple(parse_pattern(text) for text in denied),
        hooks=hooks,
    )
    return NetworkPolicy.compile(replace(base, **settings))  # type: ignore[arg-type]  # a row names real fields


def ask(
    policy: NetworkPolicy,
    target: str,
    use: Use | None = None,
    protocol: NetworkProtocol = NetworkProtocol.HTTPS_CONNECT,
    world: World | None = None,
) -> Verdict:
    request = NetworkPolicyRequest(protocol, parse_endpoint(target, 443), use or Tunnel(), "CONNECT")
    return asyncio.run(decide(policy, request, world or a_world()))


def a_world(resolver: RecordingResolver | None = None, **changes: object) -> World:
    world = World(resolver or RecordingResolver(), lambda: "id-1", lambda _, port: port == 3128)
    return replace(world, **changes)  # type: ignore[arg-type]  # a row names real fields


def reason(verdict: Verdict) -> str:
    match verdict:
        case Blocked():
            return verdict.reason
        case Allowed():
            return "allow"
        case Unresolved():
            return "unresolved"
        case _:
            return "unavailable"
