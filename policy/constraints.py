"""What an organisation allows a configuration to say, handed over by the embedding code (spec B1.5.1, B2.6).

Constraints only narrow: a configuration within them is never wider than they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .domains import PatternSet
from .errors import InvalidPattern, shown
from .hooks import compile_hooks
from .modes import NetworkMode
from .patterns import DomainPattern, parse_pattern
from .settings import NetworkSettings
from .unix_paths import normalize_socket_path

LISTED = 20
"""Entries of a list that a message names."""

LISTS = ("allowed_domains", "denied_domains", "allow_unix_sockets")
"""What constraints and requirements have as lists."""

_SWITCHES = (
    "enabled", "allow_upstream_proxy", "dangerously_allow_non_loopback_proxy", "dangerously_allow_all_unix_sockets",
    "allowlist_expansion_enabled", "denylist_expansion_enabled", "allow_local_binding",
)  # fmt: skip
_DISABLED = "false (disabled by managed config)"
_RANKS = {NetworkMode.LIMITED: 0, NetworkMode.FULL: 1}


@dataclass(frozen=True, slots=True)
class Constraints:
    """Upper bounds for a network table; `None` bounds nothing. The names are those of the configuration file.

    `allowed_domains` bounds the allowlist: each of its entries must be covered by one of these. With
    `allowlist_expansion_enabled = True` the list must hold all of these and may hold more, with `False` it must hold
    exactly these. `denied_domains` must all be denied; with `denylist_expansion_enabled = False` nothing else may be.
    Raises `ValueError` when it makes no sense itself.
    """

    enabled: bool | None = None
    mode: NetworkMode | None = None
    allow_upstream_proxy: bool | None = None
    dangerously_allow_non_loopback_proxy: bool | None = None
    dangerously_allow_all_unix_sockets: bool | None = None
    allowed_domains: tuple[str, ...] | None = None
    allowlist_expansion_enabled: bool | None = None
    denied_domains: tuple[str, ...] | None = None
    denylist_expansion_enabled: bool | None = None
    allow_unix_sockets: tuple[str, ...] | None = None
    allow_local_binding: bool | None = None

    def __post_init__(self) -> None:
        take_lists(self)
        for name in _SWITCHES:
            # A 0 or "false" from elsewhere must not pass for no bound at all.
            if not isinstance(value := getattr(self, name), bool | None):
                raise ValueError(f"network proxy constraints are invalid: {name} is {shown(value)}; use True or False")
        if self.mode is not None and not isinstance(self.mode, NetworkMode):
            raise ValueError(f"network proxy constraints are invalid: mode is {shown(self.mode)}; use a NetworkMode")
        for name, entries in (("allowed_domains", self.allowed_domains), ("denied_domains", self.denied_domains)):
            try:
                managed_patterns(entries or ())
            except InvalidPattern as error:
                raise ValueError(f"network proxy constraints are invalid: {name} {error}") from None


def take_lists(given: object) -> None:
    """Makes tuples of the lists in fresh constraints or requirements.

    Raises `ValueError` for anything else: of a text, each letter would count.
    """
    for name in LISTS:
        entries = getattr(given, name)
        if entries is None:
            continue
        if not isinstance(entries, list | tuple) or not all(isinstance(entry, str) for entry in entries):
            raise ValueError(
                f"network proxy constraints are invalid: {name} is {shown(entries)}; use a tuple of strings"
            )
        object.__setattr__(given, name, tuple(entries))


@dataclass(frozen=True, slots=True)
class Violation:
    """One setting that goes beyond its constraint; as text, the sentence of spec B1.5.1."""

    field: str
    candidate: str
    allowed: str

    def __str__(self) -> str:
        return f"invalid value for network.{self.field}: {self.candidate} (allowed {self.allowed})"


def validate(settings: NetworkSettings, constraints: Constraints) -> tuple[Violation, ...]:
    """Everything in which the settings go beyond the constraints, in the order of spec B1.5.1."""
    return (
        *_hooks(settings),
        *_switches(settings, constraints),
        *_allowed_domains(settings, constraints),
        *_denied_domains(settings, constraints),
        *_unix_sockets(settings, constraints),
    )


@lru_cache(maxsize=16)
def managed_patterns(entries: tuple[str, ...]) -> tuple[DomainPattern, ...]:
    """The entries in canonical form, IDNA included. Raises `InvalidPattern`, whose text names the entry."""
    return tuple(map(_managed_pattern, entries))


def _managed_pattern(entry: str) -> DomainPattern:
    try:
        return parse_pattern(entry)
    except InvalidPattern as error:
        raise InvalidPattern(f"{shown(entry)}: {error}") from None


def _hooks(settings: NetworkSettings) -> Iterator[Violation]:
    try:
        compile_hooks(settings.hooks)
    except InvalidPattern as error:
        yield Violation("mitm_hooks", str(error), "valid MITM hook configuration")


def _switches(settings: NetworkSettings, constraints: Constraints) -> Iterator[Violation]:
    yield from _switch("enabled", settings.enabled, constraints.enabled)
    if constraints.mode is not None and _RANKS[settings.mode] > _RANKS[constraints.mode]:
        allowed = f"{constraints.mode.name.capitalize()} or more restrictive"
        yield Violation("mode", settings.mode.name.capitalize(), allowed)
    yield from _switch("allow_upstream_proxy", settings.allow_upstream_proxy, constraints.allow_upstream_proxy)
    exposed = constraints.dangerously_allow_non_loopback_proxy
    yield from _switch("dangerously_allow_non_loopback_proxy", settings.allow_non_loopback, exposed)
    all_sockets = constraints.dangerously_allow_all_unix_sockets
    if all_sockets is None:
        all_sockets = constraints.allow_unix_sockets is None
    yield from _switch("dangerously_allow_all_unix_sockets", settings.allow_all_unix_sockets, all_sockets)
    yield from _switch("allow_local_binding", settings.allow_local_binding, constraints.allow_local_binding)


def _switch(field: str, candidate: bool, allowed: bool | None) -> Iterator[Violation]:
    if candidate and allowed is False:
        yield Violation(field, "true", _DISABLED)


def _allowed_domains(settings: NetworkSettings, constraints: Constraints) -> Iterator[Violation]:
    if constraints.allowed_domains is None:
        return
    field, managed = "allowed_domains", managed_patterns(constraints.allowed_domains)
    # What is denied as well narrows, and so need not stand in the allowlist any more.
    denied = frozenset(settings.denied)
    required = [pattern for pattern in managed if pattern not in denied]
    if constraints.allowlist_expansion_enabled is None:
        patterns = PatternSet(managed)
        yield from _subset(field, [each.text for each in settings.allowed if patterns.covering(each) is None])
    else:
        check = _superset if constraints.allowlist_expansion_enabled else _equal
        yield from check(field, settings.allowed, required)


def _denied_domains(settings: NetworkSettings, constraints: Constraints) -> Iterator[Violation]:
    if constraints.denied_domains is None:
        return
    managed = managed_patterns(constraints.denied_domains)
    check = _equal if constraints.denylist_expansion_enabled is False else _superset
    yield from check("denied_domains", settings.denied, managed)


def _unix_sockets(settings: NetworkSettings, constraints: Constraints) -> Iterator[Violation]:
    if constraints.allow_unix_sockets is None:
        return
    managed = {normalize_socket_path(path).lower() for path in constraints.allow_unix_sockets}
    yield from _subset("allow_unix_sockets", [path for path in settings.unix_sockets if path.lower() not in managed])


def _superset(
    field: str, candidate: Collection[DomainPattern], managed: Iterable[DomainPattern]
) -> Iterator[Violation]:
    held = set(candidate)
    if missing := [pattern.text for pattern in managed if pattern not in held]:
        yield Violation(field, f"missing managed {field} entries", _listed(missing))


def _equal(field: str, candidate: Collection[DomainPattern], managed: Iterable[DomainPattern]) -> Iterator[Violation]:
    if set(candidate) != set(managed):
        yield Violation(field, _listed([pattern.text for pattern in candidate]), f"must match managed {field}")


def _subset(field: str, outside: Sequence[str]) -> Iterator[Violation]:
    if outside:
        yield Violation(field, _listed(outside), f"subset of managed {field}")


def _listed(entries: Sequence[str]) -> str:
    more = [f"and {len(entries) - LISTED} more"] if len(entries) > LISTED else []
    return f"[{', '.join([*map(shown, entries[:LISTED]), *more])}]"
