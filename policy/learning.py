"""What an allowlist would have to hold for the requests of a log, and what of the present one they do not need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .breadth import suffix_warning
from .decision import BlockReason
from .domains import PatternSet
from .history import History, PastRequest
from .hosts import Endpoint
from .patterns import DomainPattern, PatternKind

_CONNECT = "CONNECT"
_NEVER = ".invalid"
"""Names below it never exist (RFC 6761 section 6.4); who asks for one tries whether the fence stands."""


@dataclass(slots=True)
class Seen:
    """One target in a log: how often it was let through and refused, with which methods, when last."""

    target: Endpoint
    allowed: int = 0
    blocked: int = 0
    reason: str | None = None
    last: str = ""
    methods: set[str] = field(default_factory=set)

    def add(self, request: PastRequest) -> None:
        if request.allowed:
            self.allowed += 1
        else:
            self.blocked += 1
            self.reason = request.reason
        if request.method and request.method != _CONNECT:
            self.methods.add(request.method)
        self.last = max(self.last, request.time)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A proposed allowlist. `groups` are wanted targets by their domain, `left_out` those another rule forbids.

    `unused` entries of the present allowlist let nothing through in the log; `shadowed` ones add nothing to another.
    """

    groups: tuple[tuple[str, tuple[Seen, ...]], ...]
    left_out: tuple[Seen, ...]
    unused: tuple[DomainPattern, ...]
    shadowed: tuple[tuple[DomainPattern, DomainPattern], ...]


def learn(history: History, allowed: Iterable[DomainPattern]) -> Lesson:
    """The tightest list for what was seen: exactly these hosts and ports.

    A target is wanted when it was let through, or missed by the allowlist only. Being denied or local is left out:
    that needs a decision of a person, not an entry.
    """
    present = tuple(allowed)
    seen = _by_target(history.requests)
    wanted = [one for one in seen if one.allowed or one.reason == BlockReason.NOT_ALLOWED]
    left_out = tuple(one for one in seen if one not in wanted)
    groups: dict[str, list[Seen]] = {}
    for one in sorted(wanted, key=lambda one: _sorting(one.target)):
        groups.setdefault(group_of(one.target), []).append(one)
    return Lesson(
        tuple((name, tuple(targets)) for name, targets in sorted(groups.items())),
        left_out,
        tuple(unused(history, present)),
        tuple(shadowed(present)),
    )


def _by_target(requests: Iterable[PastRequest]) -> list[Seen]:
    seen: dict[Endpoint, Seen] = {}
    for request in requests:
        if request.target.host.text.endswith(_NEVER):
            continue
        seen.setdefault(request.target, Seen(request.target)).add(request)
    return list(seen.values())


def unused(history: History, patterns: Iterable[DomainPattern]) -> Iterator[DomainPattern]:
    """The entries that no request of the log needs: each target needs the entry that a look-up finds for it."""
    present = PatternSet(patterns)
    targets = {request.target for request in history.requests}
    needed = {present.match(target.host, target.port) for target in targets}
    return (pattern for pattern in present if pattern not in needed)


def shadowed(patterns: Iterable[DomainPattern]) -> Iterator[tuple[DomainPattern, DomainPattern]]:
    """Each entry that another one covers, and that other one."""
    present = tuple(dict.fromkeys(patterns))
    wide = [pattern for pattern in present if _is_wide(pattern)]
    for_any_port = PatternSet(wide)
    for_one_port = PatternSet([*wide, *(pattern for pattern in present if pattern.port is None)])
    for pattern in present:
        if _is_wide(pattern):
            others = PatternSet(one for one in wide if one is not pattern)
        else:
            others = for_any_port if pattern.port is None else for_one_port
        if found := others.covering(pattern):
            yield pattern, found


def _is_wide(pattern: DomainPattern) -> bool:
    """Whether it may cover entries of other names; there are few of these."""
    return pattern.is_wildcard or pattern.kind is PatternKind.NETWORK


def group_of(target: Endpoint) -> str:
    """The domain under which a reader looks for a host: its last two labels, or three below a shared suffix."""
    if target.host.is_literal:
        return "addresses"
    labels = target.host.text.split(".")
    short = ".".join(labels[-2:])
    # The warning knows suffixes under which strangers get names, such as `co.uk`.
    return short if len(labels) < 3 or suffix_warning(short) is None else ".".join(labels[-3:])


def _sorting(target: Endpoint) -> tuple[list[str], int]:
    """By domain, then subdomain: names sort from their right end."""
    return target.host.text.split(".")[::-1], target.port
