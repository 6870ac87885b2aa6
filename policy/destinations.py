"""Step 7 of a decision: the way to the target, and whether its addresses may be dialled (spec A3, A6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from .addresses import AddressClass, classify, opened_by_local_binding
from .decision import BlockReason, Decision, DecisionSource, IPAddress, NetworkPolicyRequest, PolicyScope, Ruling
from .errors import ResolutionFailed
from .hosts import Endpoint
from .interfaces import Resolver
from .listeners import LOOPBACK
from .upstream import UpstreamProxy, route_of

if TYPE_CHECKING:
    from .engine import NetworkPolicy, World

IsOwnListener = Callable[[IPAddress, int], bool]

REMEMBERED = 4096
"""Targets whose judgement by the lists is remembered; the lists of one policy never change."""


class Way(NamedTuple):
    """How to get to a target; see `Allowed`."""

    addresses: tuple[IPAddress, ...]
    upstream: UpstreamProxy | None = None
    looked_up: bool = True


async def find_way(policy: NetworkPolicy, request: NetworkPolicyRequest, world: World) -> Way:
    """The addresses to judge and to dial, or the upstream proxy to ask. Raises `ResolutionFailed`.

    Behind an upstream proxy a name is looked up only when the policy minds its addresses, and one that is not known
    here is left to the proxy: a company's names are often known to its proxy alone.
    """
    upstream = choose_upstream(policy, request, world)
    if upstream is None:
        return Way(literal_address(request.target) or await find_addresses(request.target, world.resolver))
    if not minds_addresses(policy, request.target, world.is_own_listener):
        return Way((), upstream, looked_up=False)
    try:
        return Way(await find_addresses(request.target, world.resolver), upstream)
    except ResolutionFailed:
        return Way((), upstream)


def choose_upstream(policy: NetworkPolicy, request: NetworkPolicyRequest, world: World) -> UpstreamProxy | None:
    """The upstream proxy that a request takes under this policy; `None` for a direct connection."""
    return route_of(world.routes, request, world.is_own_listener) if policy.allow_upstream_proxy else None


def minds_addresses(policy: NetworkPolicy, target: Endpoint, is_own_listener: IsOwnListener) -> bool:
    """Whether it matters to the policy where a target is: always, unless local binding is on and no address denied.

    On a port of our own it matters as well, whatever the policy says: the name may mean this very proxy.
    """
    if target.host.address is not None or not policy.allow_local_binding or policy.denied.holds_addresses:
        return True
    return is_own_listener(LOOPBACK, target.port)


def literal_address(target: Endpoint) -> tuple[IPAddress, ...]:
    """The address that the target is, with its zone; empty for a name."""
    host = target.host
    if host.address is None:
        return ()
    return (ip_address(host.text) if host.zone else host.address,)


async def find_addresses(target: Endpoint, resolver: Resolver) -> tuple[IPAddress, ...]:
    """The literal's own address, or one lookup of the name (spec A3 step 7). Raises `ResolutionFailed`."""
    if literal := literal_address(target):
        return literal
    addresses = tuple(await resolver.resolve(target.host.text, target.port))
    if not addresses:
        raise ResolutionFailed(f"could not resolve {target.host.text}")
    return addresses


def judge_addresses(
    policy: NetworkPolicy, target: Endpoint, addresses: Sequence[IPAddress], is_own_listener: IsOwnListener
) -> Ruling | None:
    """Every address must be one the policy lets us dial; one bad address blocks the name."""
    for address in addresses:
        if is_own_listener(address, target.port):
            return baseline_deny(BlockReason.NOT_ALLOWED_LOCAL)
    return _judge_addresses(policy, target, tuple(addresses))


@lru_cache(maxsize=REMEMBERED)
def _judge_addresses(policy: NetworkPolicy, target: Endpoint, addresses: tuple[IPAddress, ...]) -> Ruling | None:
    explicit = policy.allowed.literal_entry(target.host, target.port) is not None
    for address in addresses:
        if rule := policy.denied.match_address(address, target.port):
            return baseline_deny(BlockReason.DENIED, rule.text)
        if not _may_dial(policy, target, classify(address), explicit=explicit):
            return baseline_deny(BlockReason.NOT_ALLOWED_LOCAL)
    return None


def forget_judgements() -> None:
    """Lets go of policies that are no longer in force."""
    _judge_addresses.cache_clear()


def is_open(policy: NetworkPolicy, address_class: AddressClass) -> bool:
    """Whether addresses of this class need no entry of their own."""
    if address_class is AddressClass.PUBLIC:
        return True
    return policy.allow_local_binding and opened_by_local_binding(address_class)


def baseline_deny(reason: BlockReason, rule: str | None = None) -> Ruling:
    """The lists, or an address, say no."""
    return Ruling(Decision.DENY, reason, DecisionSource.BASELINE_POLICY, PolicyScope.DOMAIN, rule)


def _may_dial(policy: NetworkPolicy, target: Endpoint, address_class: AddressClass, *, explicit: bool) -> bool:
    """An explicit entry exempts exactly that literal; for `localhost` it covers loopback addresses only."""
    if target.host.address is not None:
        return explicit or is_open(policy, address_class)
    if explicit:
        return address_class is AddressClass.LOOPBACK
    return is_open(policy, address_class)
