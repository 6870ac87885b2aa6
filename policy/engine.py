"""The decision, in the order of spec A3: pure steps, and the one short async function that holds their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

from . import destinations
from .addresses import classify
from .config import NetworkSettings
from .deciding import Asker
from .decision import (
    ALLOW_REASON,
    Allowed,
    Blocked,
    BlockReason,
    Decision,
    DecisionSource,
    HttpUse,
    IPAddress,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
    Tunnel,
    Unresolved,
    Verdict,
)
from .destinations import REMEMBERED, baseline_deny, find_way, is_open, judge_addresses
from .domains import PatternSet
from .errors import ResolutionFailed
from .hooks import HookMatch, HookTable, compile_hooks
from .hosts import Endpoint
from .interfaces import Resolver, SocketFinder
from .modes import NetworkMode, reads_only
from .unix_sockets import SocketRules, decide_socket
from .upstream import DIRECT, UpstreamRoutes

LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True, eq=False)
class NetworkPolicy:
    """One compiled configuration. Immutable; a reload swaps it whole (spec A1.6).

    Two of them are equal only when they are the same, so that what one has judged can be remembered.
    """

    enabled: bool
    mode: NetworkMode
    allowed: PatternSet
    denied: PatternSet
    allow_local_binding: bool
    mitm: bool
    hooks: HookTable
    allow_upstream_proxy: bool
    unix_sockets: SocketRules
    hard_allowlist: bool = False
    socks5_udp: bool = True

    @classmethod
    def compile(cls, settings: NetworkSettings) -> NetworkPolicy:
        """Compiles the patterns and hooks of a checked configuration. Reads no secret."""
        return cls(
            enabled=settings.enabled,
            mode=settings.mode,
            allowed=PatternSet(settings.allowed),
            denied=PatternSet(settings.denied),
            allow_local_binding=settings.allow_local_binding,
            mitm=settings.mitm,
            hooks=compile_hooks(settings.hooks),
            allow_upstream_proxy=settings.allow_upstream_proxy,
            unix_sockets=SocketRules(
                settings.unix_sockets, settings.denied_unix_sockets, settings.allow_all_unix_sockets
            ),
            hard_allowlist=settings.hard_allowlist,
            socks5_udp=settings.enable_socks5_udp,
        )


@dataclass(frozen=True, slots=True)
class World:
    """What a decision may ask of the outside.

    `is_own_listener` keeps the proxy from dialling itself, `is_own_relay`, by default the same, from sending itself
    datagrams. `routes` are the upstream proxies of the environment; without `sockets` there are no unix sockets here.
    """

    resolver: Resolver
    new_request_id: Callable[[], str]
    is_own_listener: Callable[[IPAddress, int], bool]
    decider: Asker | None = None
    routes: UpstreamRoutes = DIRECT
    sockets: SocketFinder | None = None
    is_own_relay: Callable[[IPAddress, int], bool] | None = None

    def is_own(self, request: NetworkPolicyRequest) -> Callable[[IPAddress, int], bool]:
        """Tells which addresses and ports lead back to the proxy, for what is asked."""
        by_datagram = request.protocol is NetworkProtocol.SOCKS5_UDP
        return (self.is_own_relay if by_datagram else None) or self.is_own_listener


@dataclass(frozen=True, slots=True)
class UseRuling:
    """Step 6: whether the mode and the hooks let this use pass, and whether the engine must read it."""

    rulings: tuple[Ruling, ...] = ()
    inspect: bool = False
    hook: HookMatch | None = None

    @property
    def blocked(self) -> bool:
        # Only the last one can be a block.
        return bool(self.rulings) and self.rulings[-1].decision is not Decision.ALLOW


_RELAY, _READ = UseRuling(), UseRuling(inspect=True)


async def decide(policy: NetworkPolicy, request: NetworkPolicyRequest, world: World) -> Verdict:
    """Decides one request, in the order of spec A3. Suspends only for a decider or a lookup."""
    request_id = world.new_request_id()
    if request.socket_path is not None:
        return await decide_socket(policy, request, request.socket_path, world.sockets, request_id)
    if not policy.enabled:
        return Blocked(request_id, request, (_guard(BlockReason.PROXY_DISABLED, DecisionSource.PROXY_STATE),))
    host = judge_host(policy, request.target)
    if host is None:
        host = await ask_decider(None if policy.hard_allowlist else world.decider, request)
    if host.decision is not Decision.ALLOW:
        return Blocked(request_id, request, (host,))
    use = judge_use(policy, request)
    if use.blocked:
        return Blocked(request_id, request, (host, *use.rulings))
    try:
        way = await find_way(policy, request, world)
    except ResolutionFailed as error:
        return Unresolved(request_id, request, (host, *use.rulings), str(error))
    if block := judge_addresses(policy, request.target, way.addresses, world.is_own(request)):
        return Blocked(request_id, request, (block,))
    rulings = (host, *use.rulings)
    return Allowed(request_id, request, rulings, way.addresses, use.inspect, use.hook, way.upstream, way.looked_up)


@lru_cache(maxsize=REMEMBERED)
def judge_host(policy: NetworkPolicy, target: Endpoint) -> Ruling | None:
    """Steps 3 to 5: the lists and local literals. `None` is an allowlist miss, which a decider may override."""
    if rule := policy.denied.match_deny(target.host, target.port):
        return baseline_deny(BlockReason.DENIED, rule.text)
    if _is_closed_literal(policy, target):
        return baseline_deny(BlockReason.NOT_ALLOWED_LOCAL)
    if rule := policy.allowed.match(target.host, target.port):
        return Ruling(Decision.ALLOW, ALLOW_REASON, DecisionSource.BASELINE_POLICY, PolicyScope.DOMAIN, rule.text)
    return None


def _is_closed_literal(policy: NetworkPolicy, target: Endpoint) -> bool:
    """A local literal, or `localhost`, that neither an explicit entry nor local binding opens (spec B3.3)."""
    if policy.allowed.literal_entry(target.host, target.port):
        return False
    if target.host.address is not None:
        return not is_open(policy, classify(target.host.address))
    return target.host.text == LOCALHOST and not policy.allow_local_binding


async def ask_decider(decider: Asker | None, request: NetworkPolicyRequest) -> Ruling:
    """An allowlist miss: the decider's word, or a deny when there is none. Whatever it says, it says it itself."""
    if decider is None:
        return baseline_deny(BlockReason.NOT_ALLOWED)
    answer = await decider.ask(request)
    if answer.decision is Decision.ALLOW:
        return Ruling(
            Decision.ALLOW, BlockReason.NOT_ALLOWED, DecisionSource.DECIDER, PolicyScope.DOMAIN, override=True
        )
    return Ruling(answer.decision, answer.reason, DecisionSource.DECIDER, PolicyScope.DOMAIN)


def judge_use(policy: NetworkPolicy, request: NetworkPolicyRequest) -> UseRuling:
    """Step 6: mode, interception, hooks and method, for a host that has passed (spec A4, B4, B5)."""
    match request.use:
        case Tunnel():
            return _judge_tunnel(policy, request)
        case HttpUse() as use:
            return _judge_http(policy, request.target, use)
        case _:
            assert_never(request.use)


def _judge_tunnel(policy: NetworkPolicy, request: NetworkPolicyRequest) -> UseRuling:
    hooked = policy.hooks.covers(request.target.host)
    if not hooked and policy.mode is NetworkMode.FULL:
        return _RELAY
    if request.protocol is NetworkProtocol.SOCKS5_UDP and hooked:
        return UseRuling((_guard(BlockReason.MITM_REQUIRED),))
    socks = request.protocol in (NetworkProtocol.SOCKS5_TCP, NetworkProtocol.SOCKS5_UDP)
    if socks and policy.mode is NetworkMode.LIMITED:
        return UseRuling((_guard(BlockReason.METHOD_NOT_ALLOWED),))
    inspect = hooked or policy.mode is NetworkMode.LIMITED
    if inspect and not policy.mitm:
        return UseRuling((_guard(BlockReason.MITM_REQUIRED),))
    return _READ if inspect else _RELAY


def _judge_http(policy: NetworkPolicy, target: Endpoint, use: HttpUse) -> UseRuling:
    hook = None
    rulings: tuple[Ruling, ...] = ()
    if policy.hooks.covers(target.host):
        if not (use.secure and policy.mitm):
            return UseRuling((_guard(BlockReason.MITM_REQUIRED),))
        hook = policy.hooks.match(target.host, use)
        if hook is None:
            return UseRuling((_guard(BlockReason.MITM_HOOK_DENIED),))
        rulings = (_hook_allow(hook),)
    if not reads_only(policy.mode, use):
        return UseRuling((*rulings, _guard(BlockReason.METHOD_NOT_ALLOWED)))
    return UseRuling(rulings, inspect=True, hook=hook) if hook else _READ


def forget_judgements() -> None:
    """Lets go of policies that are no longer in force."""
    judge_host.cache_clear()
    destinations.forget_judgements()


def _guard(reason: BlockReason, source: DecisionSource = DecisionSource.MODE_GUARD) -> Ruling:
    return Ruling(Decision.DENY, reason, source, PolicyScope.NON_DOMAIN)


def _hook_allow(hook: HookMatch) -> Ruling:
    rule = f"mitm_hooks[{hook.index}]"
    return Ruling(Decision.ALLOW, ALLOW_REASON, DecisionSource.MODE_GUARD, PolicyScope.NON_DOMAIN, rule)
