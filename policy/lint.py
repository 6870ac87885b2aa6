"""Warnings about a configuration that is legal and probably not what was meant (spec A1.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .domains import PatternSet
from .errors import ConfigProblem, shown
from .header_edits import FRAMING_HEADERS
from .hook_values import split_syntax
from .hosts import Host
from .lint_sockets import lint_sockets
from .modes import NetworkMode
from .paths import split_target
from .patterns import DomainPattern
from .profiles import Finding
from .settings import HookSettings, NetworkSettings
from .toml_lines import Path

_HTTPS = 443

_RELAYS = ("example-com.translate.goog", "translate.google.com", "r.jina.ai", "web.archive.org", "corsproxy.io")
"""Hosts that fetch any address for anyone: allowing one allows a way around the list."""


@dataclass(frozen=True, slots=True)
class LintWarning(ConfigProblem):
    """One line for the log: where, what stands there, what it leads to, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Checked settings, and where in the network table each pattern, allowed socket and hook stands."""

    settings: NetworkSettings
    allowed: Mapping[DomainPattern, Path]
    denied: Mapping[DomainPattern, Path]
    sockets: Mapping[str, Path]
    hooks: tuple[tuple[Path, HookSettings], ...]


def lint(subject: Subject) -> Iterator[Finding]:
    """Everything worth a warning; the paths are those of the network table."""
    allowed, denied = PatternSet(subject.allowed), PatternSet(subject.denied)
    yield from _switches(subject.settings)
    yield from _listeners(subject.settings)
    yield from _patterns(subject, denied)
    yield from _relays(subject, allowed, denied)
    yield from lint_sockets(subject.sockets, subject.settings.allow_all_unix_sockets)
    for path, hook in subject.hooks:
        yield from _hook(path, hook, allowed, denied)


def _switches(settings: NetworkSettings) -> Iterator[Finding]:
    if not settings.enabled:
        yield Finding(("enabled",), "network.enabled is false; skipping proxy listeners; write true to start them")
    if not settings.allowed:
        repair = 'write hosts such as "api.example.com" or "*.example.com"'
        yield Finding(("allowed_domains",), f"is empty, so every request is blocked; {repair}")
    if not settings.mitm and settings.hooks:
        message = "is off, so hooked hosts are refused with mitm_required and no secret is read; write mitm = true"
        yield Finding(("mitm",), message)
    if not settings.mitm and settings.mode is NetworkMode.LIMITED:
        message = "is off, so limited mode refuses HTTPS with mitm_required; write mitm = true"
        yield Finding(("mitm",), message)


def _listeners(settings: NetworkSettings) -> Iterator[Finding]:
    if warning := settings.http_bind.warning:
        yield Finding(("proxy_url",), warning)
    if settings.enable_socks5 and (warning := settings.socks_bind.warning):
        yield Finding(("socks_url",), warning)


def _patterns(subject: Subject, denied: PatternSet) -> Iterator[Finding]:
    for pattern, path in subject.allowed.items():
        if warning := pattern.warning:
            yield Finding(path, warning, pattern.text)
        if shadow := denied.covering(pattern):
            message = f"is never allowed, because {shadow.text} is denied; remove one of the two entries"
            yield Finding(path, message, pattern.text)


def _relays(subject: Subject, allowed: PatternSet, denied: PatternSet) -> Iterator[Finding]:
    for relay in _RELAYS:
        pattern = allowed.match(Host(relay), _HTTPS)
        if pattern and not denied.match(Host(relay), _HTTPS):
            message = f"lets {relay} fetch any address for its clients; deny that host, or write narrower entries"
            yield Finding(subject.allowed[pattern], message, pattern.text)


def _hook(path: Path, hook: HookSettings, allowed: PatternSet, denied: PatternSet) -> Iterator[Finding]:
    host = hook.host
    if shadow := denied.match_deny(host, _HTTPS):
        message = f"is denied by {shadow.text}, so requests are blocked before the hook; remove one of the two"
        yield Finding((*path, "host"), message, host.text)
    elif not any(allowed.match(host, port) for port in {_HTTPS, *(pattern.port or _HTTPS for pattern in allowed)}):
        message = "is not covered by the allowlist, so requests are blocked before the hook"
        yield Finding((*path, "host"), f"{message}; add {shown(host.bracketed)} to allowed_domains", host.text)
    for prefix in hook.path_prefixes:
        if warning := _path_warning(prefix):
            yield Finding((*path, *_match(path), "path_prefixes"), warning, prefix)
    for name in dict.fromkeys((*hook.strip, *(entry.name for entry in hook.inject))):
        if name in FRAMING_HEADERS:
            yield Finding(path, f"editing the header {name} has no effect, it belongs to the proxy; remove that entry")


def _match(path: Path) -> Path:
    """The list form keeps the criteria one table deeper than the named form."""
    return ("match",) if path[0] == "mitm_hooks" else ()


def _path_warning(entry: str) -> str | None:
    is_glob, text = split_syntax(entry)
    if is_glob:
        return None if text.startswith(("/", "*")) else f'never matches; write "pattern:/{text}"'
    if not text.startswith("/"):
        return f'never matches; write "/{text}"'
    # Both endings, because a prefix may stop in the middle of a segment.
    if "?" in text or not any(split_target(text + ending) for ending in ("x", "0")):
        return "never matches; write a path without query, dot segments and escaped slashes"
    if not text.endswith("/"):
        return f'also matches {text}-and-more; write "{text}/", or "pattern:{text}" for this path alone'
    return None
