"""The door's authority: the only holder of policy state. Everybody else asks it (spec A4)."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from codex_network_proxy.policy.addresses import address_text
from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.blocked import BlockedBuffer, BlockedRequest, is_reported
from codex_network_proxy.policy.deciding import DECIDER_TIMEOUT
from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    BlockReason,
    Decision,
    DecisionSource,
    NetworkPolicyRequest,
    Outage,
    PolicyScope,
    Ruling,
    Unavailable,
    Unresolved,
    Verdict,
)
from codex_network_proxy.policy.destinations import choose_upstream, judge_addresses, minds_addresses
from codex_network_proxy.policy.engine import (
    NetworkPolicy,
    World,
    decide,
    forget_judgements,
    judge_host,
    judge_use,
)
from codex_network_proxy.policy.interfaces import AuditSink, Clock, NetworkPolicyDecider, Resolver
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.unix_sockets import keeps_socket
from codex_network_proxy.policy.upstream import DIRECT, UpstreamRoutes

from .decision_log import log_upstream_failure, log_verdict, log_violation
from .local_sockets import LocalSockets
from .own_listeners import OwnListeners
from .questions import Questions, was_decided

logger = logging.getLogger("codex_network_proxy")

BlockObserver = Callable[[Blocked, BlockedRequest], None]
FailureObserver = Callable[[NetworkPolicyRequest, str], None]
PolicyObserver = Callable[[], None]


class RequestIds:
    """Short ids, unique in this process and hard to confuse with another's: they tie answer, event and log line."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(4)
        self._next = itertools.count(1).__next__

    def __call__(self) -> str:
        return f"{self._prefix}-{self._next():x}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the authority needs of the outside world. Tests hand over fakes. `decider_timeout` is in seconds.

    While `recording` says no, nothing is decided: what cannot be written down must not happen.
    """

    resolver: Resolver
    audit: AuditSink
    clock: Clock
    decider: NetworkPolicyDecider | None = None
    decider_timeout: float = DECIDER_TIMEOUT
    metadata: tuple[tuple[str, str], ...] = ()
    recording: Callable[[], bool] | None = None
    routes: UpstreamRoutes = DIRECT
    sockets: LocalSockets | None = None


class Authority:
    """Decides, audits, records and reports. A broken configuration closes it until a good one arrives (spec A1.6)."""

    def __init__(self, policy: NetworkPolicy, surroundings: Surroundings) -> None:
        self._policy: NetworkPolicy | None = policy
        self._outside = surroundings
        self.sockets = surroundings.sockets
        self.own_listeners = OwnListeners()
        self.own_relays = OwnListeners(self.own_listeners)
        self.blocked = BlockedBuffer()
        self._world = World(
            resolver=surroundings.resolver,
            new_request_id=RequestIds(),
            is_own_listener=self.own_listeners,
            is_own_relay=self.own_relays,
            routes=surroundings.routes,
            sockets=surroundings.sockets,
        )
        decider = surroundings.decider
        self._questions = None if decider is None else Questions(decider, surroundings.decider_timeout)
        self._block_observers: list[BlockObserver] = []
        self._failure_observers: list[FailureObserver] = []
        self._policy_observers: list[PolicyObserver] = []

    @property
    def policy(self) -> NetworkPolicy | None:
        """The policy in force; `None` while the configuration is broken."""
        return self._policy

    @property
    def world(self) -> World:
        """What a decision may ask of the outside, without the decider."""
        return self._world

    @property
    def mode(self) -> NetworkMode:
        """The mode in force; the narrower one while the configuration is broken."""
        return self._policy.mode if self._policy else NetworkMode.LIMITED

    @property
    def serves_udp(self) -> bool | None:
        """Whether SOCKS5 clients may have UDP associations; `None` while the configuration is broken."""
        return self._policy.socks5_udp if self._policy else None

    def replace(self, policy: NetworkPolicy | None) -> None:
        """Puts a new policy in force at once; `None` closes everything. Observers may then cut what it forbids."""
        self._policy = policy
        forget_judgements()
        for observer in self._policy_observers:
            try:
                observer()
            except Exception as error:
                # The others must still get to cut what is theirs.
                logger.error("an observer of the policy failed (%s)", type(error).__name__)

    def on_block(self, observer: BlockObserver) -> None:
        """Calls `observer` after each block was audited and buffered. What it raises is logged, never spread."""
        self._block_observers.append(observer)

    def on_failure(self, observer: FailureObserver) -> None:
        """Calls `observer` with each request that passed and failed all the same, and with the reason; no block."""
        self._failure_observers.append(observer)

    def on_policy(self, observer: PolicyObserver) -> None:
        """Calls `observer` after each change of the policy."""
        self._policy_observers.append(observer)

    async def decide(self, request: NetworkPolicyRequest, tunnel: Allowed | None = None) -> Verdict:
        """Decides, audits and records. Whatever goes wrong inside is a deny with a reason (spec A4.8).

        `tunnel` is the verdict on the intercepted tunnel through which the request came: what a decider said of it
        holds for what is inside. Raises nothing but cancellation; a client that leaves its question is denied.
        """
        if self._questions is None:
            verdict = await self._settle(request, self._world)
        else:
            with self._questions.about(request, tunnel) as asked:
                try:
                    verdict = await self._settle(request, replace(self._world, decider=asked))
                except asyncio.CancelledError:
                    if asked.waiting:
                        self._record(self._left(request))
                    raise
        self._record(verdict)
        return verdict

    async def _settle(self, request: NetworkPolicyRequest, world: World) -> Verdict:
        verdict, policy = await self._decide(request, world)
        while self._policy is not policy:
            # It changed while a lookup or a decider took its time; what it forbids now must not begin.
            verdict, policy = await self._decide(request, world)
        return verdict

    async def _decide(self, request: NetworkPolicyRequest, world: World) -> tuple[Verdict, NetworkPolicy | None]:
        policy = self._policy
        if policy is None:
            return Unavailable(world.new_request_id(), request), policy
        recording = self._outside.recording
        if recording and not recording():
            return Unavailable(world.new_request_id(), request, Outage.NO_AUDIT_LOG), policy
        try:
            verdict = await decide(policy, request, world)
        except Exception as error:
            # The text of the error may hold what the client sent: only its kind is logged.
            logger.error("decision failed (%s); the request is denied", type(error).__name__)
            verdict = self._failed(request)
        if recording and not recording():
            verdict = Unavailable(verdict.request_id, request, Outage.NO_AUDIT_LOG)
        return verdict, policy

    async def preview(self, request: NetworkPolicyRequest, policy: NetworkPolicy | None = None) -> Verdict:
        """What `decide` would answer without a decider, under the policy in force or another. Leaves no trace."""
        policy = policy or self._policy
        if policy is None:
            return Unavailable(self._world.new_request_id(), request)
        return await decide(policy, request, self._world)

    def client_left(self, client_address: str) -> None:
        """A client is gone, or will send no more: a question to the decider on its behalf is answered with a deny."""
        if self._questions is not None:
            self._questions.client_left(client_address)

    def close(self) -> None:
        """Ends every question, to the decider with a deny, and to the file system."""
        if self._questions is not None:
            self._questions.close()
        if self.sockets is not None:
            self.sockets.close()

    def deny(self, request: NetworkPolicyRequest, reason: BlockReason = BlockReason.POLICY_DENIED) -> Blocked:
        """A block that a guard outside the policy found, audited and recorded like any other."""
        verdict = self._failed(request, reason)
        self._record(verdict)
        return verdict

    def unreached(self, allowed: Allowed, why: str) -> None:
        """What was allowed has failed on its way, which is no block. `why` is what the client is told."""
        log_upstream_failure(allowed.request, allowed.request_id, why)
        self._tell_of_failure(allowed.request, why)

    def _failed(self, request: NetworkPolicyRequest, reason: BlockReason = BlockReason.POLICY_DENIED) -> Blocked:
        ruling = Ruling(Decision.DENY, reason, DecisionSource.MODE_GUARD, PolicyScope.NON_DOMAIN)
        return Blocked(self._world.new_request_id(), request, (ruling,))

    def _left(self, request: NetworkPolicyRequest) -> Blocked:
        ruling = Ruling(Decision.DENY, BlockReason.POLICY_DENIED, DecisionSource.DECIDER, PolicyScope.DOMAIN)
        return Blocked(self._world.new_request_id(), request, (ruling,))

    def still_allows(self, allowed: Allowed) -> bool:
        """Whether the policy in force would let an open connection stand: same host, use, route and addresses."""
        policy, request = self._policy, allowed.request
        if policy is None or not policy.enabled:
            return False
        if allowed.socket is not None:
            return keeps_socket(policy, request, allowed.socket, self.sockets)
        host = judge_host(policy, request.target)
        # What a decider once allowed stays allowed, unless the lists now say otherwise.
        kept = host is None and was_decided(allowed) and not policy.hard_allowlist
        if not kept and (host is None or host.decision is not Decision.ALLOW):
            return False
        use = judge_use(policy, request)
        if use.blocked or use.inspect != allowed.inspect or not self._keeps_way(policy, allowed):
            return False
        return judge_addresses(policy, request.target, allowed.addresses, self._world.is_own(request)) is None

    def _keeps_way(self, policy: NetworkPolicy, allowed: Allowed) -> bool:
        """Whether what goes through an upstream proxy may do so still, and need not be looked up after all."""
        if allowed.upstream is None:
            return True
        if choose_upstream(policy, allowed.request, self._world) != allowed.upstream:
            return False
        return allowed.looked_up or not minds_addresses(policy, allowed.request.target, self.own_listeners)

    def _record(self, verdict: Verdict) -> None:
        now = self._outside.clock.now()
        if not isinstance(verdict, Unavailable):
            self._audit(verdict, now)
        log_verdict(verdict, self.mode)
        if isinstance(verdict, Blocked) and is_reported(verdict):
            self._report(verdict, now)
        elif isinstance(verdict, Unresolved):
            self._tell_of_failure(verdict.request, f"could not resolve {verdict.request.host}")

    def _audit(self, verdict: Verdict, now: float) -> None:
        assert not isinstance(verdict, Unavailable)
        direct = verdict if isinstance(verdict, Allowed) and verdict.upstream is None else None
        peer = address_text(direct.addresses[0]) if direct and direct.addresses else None
        for ruling in verdict.rulings:
            self._outside.audit.emit(
                PolicyDecisionEvent.of(ruling, verdict.request, verdict.request_id, now, peer, self._outside.metadata)
            )

    def _report(self, verdict: Blocked, now: float) -> None:
        entry = BlockedRequest.of(verdict, self.mode, now)
        self.blocked.add(entry)
        log_violation(entry)
        for observer in self._block_observers:
            try:
                observer(verdict, entry)
            except Exception as error:
                logger.error("an observer of blocks failed (%s)", type(error).__name__)

    def _tell_of_failure(self, request: NetworkPolicyRequest, why: str) -> None:
        for observer in self._failure_observers:
            try:
                observer(request, why)
            except Exception as error:
                logger.error("an observer of failures failed (%s)", type(error).__name__)
