"""The smallest change of a configuration that turns a decision around, found by trying it.

Each step answers the reason of the block before it; the decision after it is made by the same code as live ones.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from .addresses import AddressClass, classify, opened_by_local_binding
from .decision import Allowed, Blocked, BlockReason, HttpUse, IPAddress, NetworkProtocol, Verdict
from .engine import LOCALHOST
from .errors import ConfigError
from .modes import NetworkMode
from .origins import Origins
from .overlays import ManagedPolicy
from .paths import split_target
from .patterns import DomainPattern, parse_pattern
from .settings import HookSettings, NetworkSettings, Place

_GLOB_SYNTAX = re.compile(r"[*?\[\]{}\\]")

MOST_STEPS = 8
"""Changes that may be needed together; there are fewer kinds of blocks."""

Trial = Callable[[NetworkSettings], Awaitable[Verdict]]
"""Decides the same request under other settings."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """Changes that together turn a decision around, and the settings with all of them.

    `obstacle` says why there are none, or which managed constraint they would break.
    """

    changes: tuple[str, ...] = ()
    settings: NetworkSettings | None = field(default=None, repr=False)
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class _Step:
    change: str
    settings: NetworkSettings


class _NoWay(Exception):
    """Nothing in a configuration lets the request pass. The text says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request under one configuration. `addresses` says what its host has turned out to be so far."""

    settings: NetworkSettings
    trial: Trial
    origins: Origins
    managed: ManagedPolicy
    addresses: Callable[[], Sequence[IPAddress]]
    is_own: Callable[[], bool]


async def let_pass(case: Case, blocked: Blocked) -> Remedy:
    """The changes under which a blocked request passes."""
    settings = case.settings
    changes: list[str] = []
    verdict: Verdict = blocked
    try:
        while isinstance(verdict, Blocked) and len(changes) < MOST_STEPS:
            step = await _next_step(case, settings, verdict)
            settings = step.settings
            changes.append(step.change)
            verdict = await case.trial(settings)
    except _NoWay as error:
        return Remedy(obstacle=str(error))
    if isinstance(verdict, Blocked):
        return Remedy(obstacle=f"no {MOST_STEPS} changes let it pass")
    return Remedy(tuple(changes), settings, _forbidden(case, settings))


async def keep_out(case: Case, allowed: Allowed) -> Remedy:
    """The change under which an allowed request is blocked: one entry less, else one denial more."""
    target = allowed.request.target
    for pattern in case.settings.allowed:
        if pattern.text == allowed.rulings[0].rule:
            narrower = replace(case.settings, allowed=_without(case.settings.allowed, pattern))
            if isinstance(await case.trial(narrower), Blocked):
                change = f'remove "{pattern.text}" from allowed_domains{_at(case.origins.allowed(pattern))}'
                return Remedy((change,), narrower, _forbidden(case, narrower))
    denied = replace(case.settings, denied=(*case.settings.denied, parse_pattern(str(target))))
    return Remedy((f'add "{target}" to denied_domains',), denied, _forbidden(case, denied))


def _forbidden(case: Case, settings: NetworkSettings) -> str | None:
    try:
        case.managed.check(settings)
    except ConfigError as error:
        return "; ".join(problem.message for problem in error.problems)
    return None


async def _next_step(case: Case, settings: NetworkSettings, blocked: Blocked) -> _Step:
    match blocked.reason:
        case BlockReason.PROXY_DISABLED:
            return _Step(f"write enabled = true{_at(case.origins.key('enabled'))}", replace(settings, enabled=True))
        case BlockReason.DENIED:
            return _undeny(case, settings, blocked)
        case BlockReason.NOT_ALLOWED:
            return _allow(settings, blocked)
        case BlockReason.NOT_ALLOWED_LOCAL:
            return _open_local(case, settings, blocked)
        case BlockReason.METHOD_NOT_ALLOWED:
            return _Step(
                f'write mode = "full"{_at(case.origins.key("mode"))}', replace(settings, mode=NetworkMode.FULL)
            )
        case BlockReason.MITM_REQUIRED:
            return _intercept(case, settings, blocked)
        case BlockReason.MITM_HOOK_DENIED:
            return await _widen_hook(case, settings, blocked)
        case _:
            raise _NoWay("a safety check failed; the log names it")


def _undeny(case: Case, settings: NetworkSettings, blocked: Blocked) -> _Step:
    pattern = next(one for one in settings.denied if one.text == blocked.ruling.rule)
    change = f'remove "{pattern.text}" from denied_domains{_at(case.origins.denied(pattern))}'
    return _Step(change, replace(settings, denied=_without(settings.denied, pattern)))


def _allow(settings: NetworkSettings, blocked: Blocked) -> _Step:
    target = str(blocked.request.target)
    allowed = (*settings.allowed, parse_pattern(target))
    return _Step(f'add "{target}" to allowed_domains', replace(settings, allowed=allowed))


def _open_local(case: Case, settings: NetworkSettings, blocked: Blocked) -> _Step:
    host = blocked.request.target.host
    if case.is_own():
        raise _NoWay("the proxy never connects to itself")
    step = _allow(settings, blocked)
    if (host.is_literal or host.text == LOCALHOST) and step.settings.allowed[-1] not in settings.allowed:
        return step
    kinds = dict.fromkeys(map(classify, case.addresses()))
    closed = [kind for kind in kinds if kind is not AddressClass.PUBLIC and not opened_by_local_binding(kind)]
    if closed or settings.allow_local_binding:
        what = ", ".join(closed) or "other than loopback"
        raise _NoWay(f"a name never leads to {what} addresses; list the address itself, and ask for that")
    place = _at(case.origins.key("allow_local_binding"))
    return _Step(f"write allow_local_binding = true{place}", replace(settings, allow_local_binding=True))


def _intercept(case: Case, settings: NetworkSettings, blocked: Blocked) -> _Step:
    request = blocked.request
    if request.protocol is NetworkProtocol.SOCKS5_UDP:
        raise _NoWay("datagrams to a host with hooks never pass; use HTTPS")
    if isinstance(request.use, HttpUse) and not request.use.secure:
        raise _NoWay("plain HTTP to a host with hooks never passes; use https://")
    return _Step(f"write mitm = true{_at(case.origins.key('mitm'))}", replace(settings, mitm=True))


async def _widen_hook(case: Case, settings: NetworkSettings, blocked: Blocked) -> _Step:
    use = blocked.request.use
    assert isinstance(use, HttpUse)
    target = split_target(use.path)
    if target is None:
        raise _NoWay("no hook matches this path: dot segments, and escaped slashes and controls, have two readings")
    for at, hook in enumerate(settings.hooks):
        if hook.host == blocked.request.target.host:
            for change, wider in _widened(hook, use.method, target[0]):
                step = _Step(change, replace(settings, hooks=(*settings.hooks[:at], wider, *settings.hooks[at + 1 :])))
                verdict = await case.trial(step.settings)
                if not (isinstance(verdict, Blocked) and verdict.reason == BlockReason.MITM_HOOK_DENIED):
                    return step
    raise _NoWay("no further method or path of a hook helps; look at its query and headers, or add a hook")


def _widened(hook: HookSettings, method: str, path: str) -> Iterator[tuple[str, HookSettings]]:
    """The hook with one entry more, then with two; a path exactly where that can be written, else as a prefix."""
    of = f"of mitm_hooks[{hook.index}]{_at(hook.place)}"
    with_method = replace(hook, methods=(*hook.methods, method))
    yield f'add "{method}" to the methods {of}', with_method
    for entry in ([] if _GLOB_SYNTAX.search(path) else [f"pattern:{path}"]) + [path]:
        paths = (*hook.path_prefixes, entry)
        yield f'add "{entry}" to the path_prefixes {of}', replace(hook, path_prefixes=paths)
        both = f'add "{method}" to the methods, and "{entry}" to the path_prefixes {of}'
        yield both, replace(with_method, path_prefixes=paths)


def _without(patterns: tuple[DomainPattern, ...], pattern: DomainPattern) -> tuple[DomainPattern, ...]:
    return tuple(each for each in patterns if each != pattern)


def _at(place: Place | None) -> str:
    if place is None or place.line is None:
        return ""
    return f" ({place.file}:{place.line})"
