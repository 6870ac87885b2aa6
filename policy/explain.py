"""Why is this request allowed or blocked, and what would change that? Decided as live requests are (spec A3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from .addresses import AddressClass, classify
from .decision import (
    Allowed,
    Blocked,
    Decision,
    IPAddress,
    NetworkPolicyRequest,
    Ruling,
    Unavailable,
    Unresolved,
    Verdict,
)
from .engine import NetworkPolicy, World, decide, forget_judgements
from .hosts import Endpoint
from .origins import Origins
from .overlays import UNMANAGED, ManagedPolicy
from .remedies import Case, Remedy, keep_out, let_pass
from .responses import block_message, error_code
from .settings import NetworkSettings, Place


@dataclass(frozen=True, slots=True)
class FoundAddress:
    """An address that the host has, and what kind of address that is."""

    address: IPAddress
    kind: AddressClass


@dataclass(frozen=True, slots=True)
class Ground:
    """One step of a decision, and where in the file the rule stands that made it."""

    ruling: Ruling
    place: Place | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and its grounds.

    `verdict` is the last one that was needed: of a tunnel, or of the request inside it. `looked_up` is false when the
    proxy itself would not have asked for the host's `addresses`; they are there to find the `remedy`: the smallest
    changes of the configuration that turn the decision around.
    """

    verdict: Allowed | Blocked | Unresolved
    grounds: tuple[Ground, ...]
    addresses: tuple[FoundAddress, ...]
    looked_up: bool
    remedy: Remedy

    @property
    def request(self) -> NetworkPolicyRequest:
        """What was asked: the tunnel, or the request inside it."""
        return self.verdict.request

    @property
    def allowed(self) -> bool:
        """Whether the proxy would let it pass."""
        return isinstance(self.verdict, Allowed)

    @property
    def message(self) -> str:
        """The decision in one sentence."""
        match self.verdict:
            case Allowed(inspect=True):
                return "The request passes; the proxy reads it."
            case Allowed():
                return "The tunnel passes; the proxy does not read it."
            case Blocked():
                return block_message(self.verdict)
            case Unresolved():
                return f"The request is allowed, but the proxy {self.verdict.message}."
            case _:
                assert_never(self.verdict)

    def fields(self) -> dict[str, object]:
        """The explanation as `--json` prints it; what has no value is left out."""
        request, verdict = self.request, self.verdict
        upstream = verdict.upstream if isinstance(verdict, Allowed) else None
        fields: dict[str, object] = {
            "host": request.host,
            "port": request.port,
            "protocol": request.protocol.value,
            "method": request.method,
            "decision": "deny" if isinstance(verdict, Blocked) else "allow",
            "reason": verdict.reason if isinstance(verdict, Blocked) else None,
            "code": error_code(verdict) if isinstance(verdict, Blocked) else None,
            "message": self.message,
            "rulings": [_ground_fields(ground) for ground in self.grounds],
            "addresses": [{"address": str(one.address), "class": one.kind.value} for one in self.addresses],
            "looked_up": self.looked_up,
            "inspected": isinstance(verdict, Allowed) and verdict.inspect,
            "upstream": str(upstream) if upstream else None,
            "changes": list(self.remedy.changes),
            "obstacle": self.remedy.obstacle,
        }
        return {key: value for key, value in fields.items() if value is not None}


def _ground_fields(ground: Ground) -> dict[str, object]:
    ruling, place = ground.ruling, ground.place
    fields = {
        "decision": ruling.decision.value,
        "reason": str(ruling.reason),
        "source": ruling.source.value,
        "rule": ruling.rule,
        "file": place.file if place else None,
        "line": place.line if place else None,
    }
    return {key: value for key, value in fields.items() if value is not None}


async def explain(
    questions: Sequence[NetworkPolicyRequest],
    settings: NetworkSettings,
    world: World,
    origins: Origins,
    managed: ManagedPolicy = UNMANAGED,
) -> Explanation:
    """Decides the questions one after the other, as a client would ask them, and explains the last answer.

    Asks no decider and leaves no trace. Looks the host up, though the proxy never looks up what it refuses.
    """
    watch = _Watch(world)
    watching = replace(world, resolver=watch, is_own_listener=watch.is_own_listener, is_own_relay=None, decider=None)

    async def trial(changed: NetworkSettings) -> Verdict:
        watch.is_own = False
        return await _decide_all(questions, NetworkPolicy.compile(changed), watching)

    try:
        verdict = await trial(settings)
        assert not isinstance(verdict, Unavailable)
        target = verdict.request.target
        looked_up = target.host.is_literal or bool(watch.found)
        case = Case(settings, trial, origins, managed, lambda: watch.addresses(target), lambda: watch.is_own)
        remedy = await _remedy(case, verdict)
    finally:
        # The policies that were tried are not in force, and would be kept for the sake of what they have judged.
        forget_judgements()
    grounds = tuple(Ground(ruling, _place(ruling, settings, origins)) for ruling in verdict.rulings)
    addresses = tuple(FoundAddress(one, classify(one)) for one in watch.addresses(target))
    return Explanation(verdict, grounds, addresses, looked_up, remedy)


async def _decide_all(questions: Sequence[NetworkPolicyRequest], policy: NetworkPolicy, world: World) -> Verdict:
    """The answer to the last question, or the first that ends the matter: a tunnel is refused, or is not read."""
    verdicts = []
    for request in questions:
        verdicts.append(await decide(policy, request, world))
        if not (isinstance(verdicts[-1], Allowed) and verdicts[-1].inspect):
            break
    return verdicts[-1]


async def _remedy(case: Case, verdict: Allowed | Blocked | Unresolved) -> Remedy:
    match verdict:
        case Allowed():
            return await keep_out(case, verdict)
        case Blocked():
            return await let_pass(case, verdict)
        case Unresolved():
            return Remedy(obstacle="the name has no address; check its spelling, and the DNS servers of this machine")
        case _:
            assert_never(verdict)


def _place(ruling: Ruling, settings: NetworkSettings, origins: Origins) -> Place | None:
    if ruling.rule is None:
        return None
    for hook in settings.hooks:
        if ruling.rule == f"mitm_hooks[{hook.index}]":
            return hook.place
    if ruling.decision is Decision.ALLOW:
        return next((origins.allowed(one) for one in settings.allowed if one.text == ruling.rule), None)
    return next((origins.denied(one) for one in settings.denied if one.text == ruling.rule), None)


@dataclass(slots=True)
class _Watch:
    """The world, with what it answered written down; each name is looked up once."""

    world: World
    found: dict[str, Sequence[IPAddress]] = field(default_factory=dict)
    is_own: bool = False

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        if name not in self.found:
            self.found[name] = ()
            self.found[name] = tuple(await self.world.resolver.resolve(name, port))
        return self.found[name]

    def is_own_listener(self, address: IPAddress, port: int) -> bool:
        self.is_own = self.world.is_own_listener(address, port)
        return self.is_own

    def addresses(self, target: Endpoint) -> Sequence[IPAddress]:
        literal = target.host.address
        return self.found.get(target.host.text, ()) if literal is None else (literal,)
