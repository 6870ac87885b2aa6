"""Past requests judged anew under another policy, by the same steps as live ones (spec A3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from .decision import (
    Blocked,
    BlockReason,
    HttpUse,
    IPAddress,
    NetworkPolicyRequest,
    NetworkProtocol,
    Tunnel,
    Use,
    Verdict,
)
from .engine import NetworkPolicy, World, decide
from .errors import ResolutionFailed
from .history import History, PastRequest


class Change(StrEnum):
    """What another policy would make of a request that was seen."""

    SAME = "same"
    NOW_BLOCKED = "now blocked"
    NOW_ALLOWED = "now allowed"
    UNKNOWN = "cannot be told"


@dataclass(frozen=True, slots=True)
class Replayed:
    """One request under the other policy. `why` is the reason of the block, or what the log does not tell."""

    request: PastRequest
    change: Change
    why: str = ""


async def replay(history: History, policy: NetworkPolicy) -> tuple[Replayed, ...]:
    """Every request of the log, in order. Looks nothing up: a name has the address that the log tells of, or none.

    There is no decider: what one once allowed counts as blocked unless a list now allows it.
    """
    return tuple([await _replay_one(past, policy) for past in history.requests])


async def _replay_one(past: PastRequest, policy: NetworkPolicy) -> Replayed:
    request = NetworkPolicyRequest(past.protocol, past.target, _use(past), past.method)
    world = World(_Recorded(past.peer), lambda: "", _owns_nothing)
    verdict = await decide(policy, request, world)
    if past.is_inner and policy.hooks.covers(past.target.host) and _hooks_decide(verdict):
        return Replayed(past, Change.UNKNOWN, "a hook decides by path and headers, which no log holds")
    match verdict:
        case Blocked():
            return Replayed(past, Change.NOW_BLOCKED if past.allowed else Change.SAME, verdict.reason)
        case _:
            # A name without a known address was allowed as far as the lists and rules go.
            return Replayed(past, Change.SAME if past.allowed else Change.NOW_ALLOWED)


def _hooks_decide(verdict: Verdict) -> bool:
    """Whether the request got as far as the hooks."""
    return not isinstance(verdict, Blocked) or verdict.reason == BlockReason.MITM_HOOK_DENIED


def _use(past: PastRequest) -> Use:
    if past.protocol is NetworkProtocol.HTTP or past.is_inner:
        return HttpUse(past.method or "", secure=past.is_inner)
    return Tunnel()


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A resolver with the one answer that the log holds."""

    address: IPAddress | None

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        if self.address is None:
            raise ResolutionFailed(f"the log has no address of {name}")
        return (self.address,)


def _owns_nothing(address: IPAddress, port: int) -> bool:
    return False
