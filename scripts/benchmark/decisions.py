"""What one decision costs with ten patterns and with a hundred thousand. No sockets, no processes."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from codex_network_proxy.policy.decision import IPAddress, NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.domains import PatternSet, parse_pattern
from codex_network_proxy.policy.engine import NetworkPolicy, World, decide, forget_judgements
from codex_network_proxy.policy.hooks import compile_hooks
from codex_network_proxy.policy.hosts import Endpoint, parse_host
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.unix_sockets import SocketRules

from .rounds import Spread, ratio
from .targets import allowed_patterns

SIZES = (10, 100, 1_000, 10_000, 100_000)
REQUESTS = 2_000
"""Different targets in one timing; fewer than the policy remembers."""


@dataclass(frozen=True, slots=True)
class Cost:
    """As multiples of the cost with the shortest list."""

    patterns: int
    new: Spread
    seen: Spread


class OneAddress:
    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        return (ip_address("93.184.216.34"),)


WORLD = World(OneAddress(), lambda: "id", lambda address, port: False)


def policy_of(patterns: int) -> NetworkPolicy:
    allowed = PatternSet(map(parse_pattern, allowed_patterns(patterns)))
    denied = PatternSet([parse_pattern("*.denied.test")])
    return NetworkPolicy(True, NetworkMode.FULL, allowed, denied, False, False, compile_hooks(()), True, SocketRules())


def requests_for(patterns: int) -> list[NetworkPolicyRequest]:
    """Spread over the whole list: three of four are allowed, in each of three ways; ports make all of them differ."""
    shapes = ("host{}.bench.test", "a.zone{}.bench.test", "tree{}.bench.test", "other{}.bench.test")
    made = []
    for index in range(REQUESTS):
        kind = index % 4
        group = index * max(1, patterns // REQUESTS) % max(1, patterns // 4 - 1)
        host = parse_host(shapes[kind].format(4 * group + kind))
        made.append(NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, Endpoint(host, 1000 + index), method="CONNECT"))
    return made


def seconds_for(policy: NetworkPolicy, requests: Sequence[NetworkPolicyRequest]) -> float:
    """For all requests, one after the other, without an event loop: nothing here ever waits."""
    started = time.perf_counter()
    for request in requests:
        try:
            decide(policy, request, WORLD).send(None)
        except StopIteration:
            continue
    return time.perf_counter() - started


def measure(rounds: int, sizes: Sequence[int] = SIZES) -> list[Cost]:
    """Takes the lists in turn, round by round; one round more warms up."""
    cases = [(policy_of(size), requests_for(size)) for size in sizes]
    new: list[list[float]] = [[] for _ in sizes]
    seen: list[list[float]] = [[] for _ in sizes]
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds + 1):
            for place, (policy, requests) in enumerate(cases):
                forget_judgements()
                new[place].append(seconds_for(policy, requests))
                seen[place].append(seconds_for(policy, requests))
    finally:
        gc.enable()
        forget_judgements()
    return [
        Cost(size, ratio(new[place][1:], new[0][1:]), ratio(seen[place][1:], seen[0][1:]))
        for place, size in enumerate(sizes)
    ]
