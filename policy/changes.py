"""What is different between two configurations, as lines for the log (spec A1.6, B1.11)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from .settings import HookSettings, NetworkSettings

LISTED = 100
"""Entries of one list that get a line of their own, each way."""

_SWITCHES: Mapping[str, str] = {
    "enabled": "enabled",
    "mode": "mode",
    "allow_local_binding": "allow_local_binding",
    "allow_upstream_proxy": "allow_upstream_proxy",
    "allow_all_unix_sockets": "dangerously_allow_all_unix_sockets",
    "mitm": "mitm",
}
"""Settings that take effect at once, and their keys in the configuration file."""

_AT_RESTART = ("http_listen", "socks_listen", "enable_socks5", "enable_socks5_udp", "allow_non_loopback")


def changes(old: NetworkSettings, new: NetworkSettings) -> Iterator[str]:
    """One line for each entry added or removed and each switch turned. Names no secret, header value or path."""
    for field, key in _SWITCHES.items():
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield f"config {key} changed from {_value(before)} to {_value(after)}"
    yield from _entries("allowlist", map(str, old.allowed), map(str, new.allowed))
    yield from _entries("denylist", map(str, old.denied), map(str, new.denied))
    yield from _entries("unix sockets", old.unix_sockets, new.unix_sockets)
    yield from _entries("denied unix sockets", old.denied_unix_sockets, new.denied_unix_sockets)
    yield from _hooks(old.hooks, new.hooks)


def needs_restart(old: NetworkSettings, new: NetworkSettings) -> bool:
    """Whether something about the listeners is different; they are bound once (spec A1.6)."""
    return any(getattr(old, field) != getattr(new, field) for field in _AT_RESTART)


def _entries(name: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    was, now = set(before), set(after)
    yield from _listed(f"config entry added to {name}", sorted(now - was))
    yield from _listed(f"config entry removed from {name}", sorted(was - now))


def _listed(what: str, entries: Sequence[str]) -> Iterator[str]:
    for entry in entries[:LISTED]:
        yield f"{what}: {entry}"
    if len(entries) > LISTED:
        yield f"{what}: {len(entries) - LISTED} more"


def _hooks(before: Sequence[HookSettings], after: Sequence[HookSettings]) -> Iterator[str]:
    was, now = ([replace(hook, index=0) for hook in hooks] for hooks in (before, after))
    added = [_hook(hook) for hook in now if hook not in was]
    removed = [_hook(hook) for hook in was if hook not in now]
    yield from _listed("config entry added to mitm_hooks", added)
    yield from _listed("config entry removed from mitm_hooks", removed)
    if was != now and not added and not removed:
        yield "config order of mitm_hooks changed"


def _hook(hook: HookSettings) -> str:
    return f"{hook.host.bracketed} ({', '.join(hook.methods)})"


def _value(value: object) -> str:
    return str(value).lower()
