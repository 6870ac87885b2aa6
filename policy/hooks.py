"""Hooks: which HTTPS requests to a host pass, and what is done to their headers (spec A4.5, A4.6, B7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .decision import HttpUse
from .errors import InvalidPattern
from .header_edits import (
    HeaderEdits,
    Injection,
    ResolvedEdits,
    SecretRef,
    apply,
    compile_edits,
    resolve_edits,
)
from .hook_values import Constraint, ValuePatterns, compile_values, headers_hold, query_holds
from .paths import PathPatterns, compile_paths, split_target
from .settings import HookSettings, InjectSettings

if TYPE_CHECKING:
    from .hosts import Host

__all__ = [
    "HeaderEdits",
    "HookMatch",
    "HookTable",
    "Injection",
    "MitmHook",
    "ResolvedEdits",
    "SecretRef",
    "apply",
    "compile_hooks",
    "resolve_edits",
]


@dataclass(frozen=True, slots=True)
class HookMatch:
    """The hook that let a request pass: its place in the configuration, and its edits. Holds no secret."""

    index: int
    edits: HeaderEdits


@dataclass(frozen=True, slots=True)
class MitmHook:
    """One compiled hook. Every criterion must hold."""

    index: int
    host: Host
    methods: frozenset[str]
    paths: PathPatterns
    query: tuple[Constraint, ...]
    headers: tuple[Constraint, ...] = field(repr=False)
    edits: HeaderEdits

    def accepts(self, use: HttpUse, path: str, query: str) -> bool:
        """Whether the hook's criteria hold for a request whose target `split_target` has parted.

        The listed methods are upper case and the request's method is compared as it is: `post` is sent as `post`,
        so it is not `POST`.
        """
        return (
            use.method in self.methods
            and self.paths.match(path)
            and query_holds(self.query, query)
            and headers_hold(self.headers, use.headers)
        )


@dataclass(frozen=True, slots=True)
class HookTable:
    """All hooks, in configuration order. A host with hooks passes only what one of them accepts, on any port."""

    hooks: tuple[MitmHook, ...] = ()
    _by_host: Mapping[str, tuple[MitmHook, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_host: dict[str, tuple[MitmHook, ...]] = {}
        for hook in self.hooks:
            by_host[hook.host.text] = (*by_host.get(hook.host.text, ()), hook)
        object.__setattr__(self, "_by_host", by_host)

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hooked hosts, each once, in configuration order."""
        return tuple(hooks[0].host for hooks in self._by_host.values())

    def covers(self, host: Host) -> bool:
        """Whether hooks have the last word on this host."""
        return host.text in self._by_host

    def match(self, host: Host, use: HttpUse) -> HookMatch | None:
        """The first hook of the host that accepts the request. None is a block when the host is covered.

        A request that is not `secure` never matches, nor does one with an ambiguous target (spec A4.5).
        """
        target = split_target(use.path) if use.secure else None
        if target is None:
            return None
        for hook in self._by_host.get(host.text, ()):
            if hook.accepts(use, *target):
                return HookMatch(hook.index, hook.edits)
        return None


def compile_hooks(settings: Sequence[HookSettings]) -> HookTable:
    """Compiles the hooks of a configuration. Reads no secret. Raises `InvalidPattern`, which names the place."""
    return HookTable(tuple(_compile(hook) for hook in settings))


def _compile(settings: HookSettings) -> MitmHook:
    place = f"invalid network.mitm_hooks[{settings.index}].match"
    return MitmHook(
        index=settings.index,
        host=settings.host,
        methods=_methods(settings),
        paths=_compile_paths(settings.path_prefixes, f"{place}.path_prefixes"),
        query=tuple((key, _compile_values(values, f"{place}.query")) for key, values in settings.query),
        headers=tuple((name.lower(), _compile_values(values, f"{place}.headers")) for name, values in settings.headers),
        edits=compile_edits(settings.strip, [_injection(entry) for entry in settings.inject]),
    )


def _injection(settings: InjectSettings) -> Injection:
    return Injection(settings.name, SecretRef(settings.env, settings.file), settings.prefix, settings.place)


def _methods(settings: HookSettings) -> frozenset[str]:
    """TRACE answers with the request's own headers, so it never gets a secret (RFC 9110 9.3.8)."""
    methods = frozenset(method.strip().upper() for method in settings.methods)
    return methods - {"TRACE"} if settings.inject else methods


def _compile_paths(entries: Sequence[str], place: str) -> PathPatterns:
    try:
        return compile_paths(entries)
    except InvalidPattern as error:
        raise InvalidPattern(f"{place}: {error}") from None


def _compile_values(entries: Sequence[str], place: str) -> ValuePatterns:
    try:
        return compile_values(entries)
    except InvalidPattern as error:
        raise InvalidPattern(f"{place}: {error}") from None
