"""The policy in force as a configuration file would say it, and where each part of it was said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from .config import LoadedConfig
from .origins import Origins
from .settings import HookSettings, InjectSettings, NetworkSettings, Place

UNNAMED = "workspace"
"""The name of the profile where the file selects none."""

_SCALARS: Mapping[str, str] = {
    "enabled": "enabled",
    "proxy_url": "http_listen",
    "mode": "mode",
    "allow_local_binding": "allow_local_binding",
    "mitm": "mitm",
    "enable_socks5": "enable_socks5",
    "socks_url": "socks_listen",
    "enable_socks5_udp": "enable_socks5_udp",
    "allow_upstream_proxy": "allow_upstream_proxy",
    "dangerously_allow_non_loopback_proxy": "allow_non_loopback",
    "dangerously_allow_all_unix_sockets": "allow_all_unix_sockets",
}
"""Keys of the network table, and the settings that they become."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

_ADDRESSES = frozenset({"proxy_url", "socks_url"})


def effective_lines(loaded: LoadedConfig, origins: Origins) -> Iterator[str]:
    """TOML that means the same, line by line, each part with a comment: file and line, or `default`.

    Parents are merged in, the map forms are lists, patterns are canonical, and named hooks are numbered ones.
    """
    settings, profile = loaded.settings, loaded.profile or UNNAMED
    table = f"permissions.{_key(profile)}.network"
    if loaded.profile is not None:
        yield f"default_permissions = {_string(profile)}"
    yield f"[{table}]"
    for key, field in _SCALARS.items():
        yield _noted(f"{key} = {_scalar(key, getattr(settings, field))}", origins.key(key))
    allowed = ((pattern.text, origins.allowed(pattern)) for pattern in settings.allowed)
    denied = ((pattern.text, origins.denied(pattern)) for pattern in settings.denied)
    yield from _list("allowed_domains", allowed)
    yield from _list("denied_domains", denied)
    yield from _sockets(settings, table, origins)
    for hook in settings.hooks:
        yield from _hook(hook, f"{table}.mitm_hooks")


def _sockets(settings: NetworkSettings, table: str, origins: Origins) -> Iterator[str]:
    if not settings.denied_unix_sockets:
        place = origins.key("allow_unix_sockets") or origins.key("unix_sockets")
        yield from _list("allow_unix_sockets", ((path, place) for path in settings.unix_sockets))
        return
    yield _noted(f"[{table}.unix_sockets]", origins.key("unix_sockets"))
    for path in settings.unix_sockets:
        yield f'{_string(path)} = "allow"'
    for path in settings.denied_unix_sockets:
        yield f'{_string(path)} = "deny"'


def _hook(hook: HookSettings, table: str) -> Iterator[str]:
    yield _noted(f"[[{table}]]", hook.place)
    yield f"host = {_string(hook.host.text)}"
    criteria = [f"methods = {_strings(hook.methods)}", f"path_prefixes = {_strings(hook.path_prefixes)}"]
    for name, constraints in (("query", hook.query), ("headers", hook.headers)):
        if constraints:
            values = (f"{_key(key)} = {_strings(allowed)}" for key, allowed in constraints)
            criteria.append(f"{name} = {{ {', '.join(values)} }}")
    yield f"match = {{ {', '.join(criteria)} }}"
    injected = ", ".join(map(_injected, hook.inject))
    yield f"actions = {{ strip_request_headers = {_strings(hook.strip)}, inject_request_headers = [{injected}] }}"


def _injected(inject: InjectSettings) -> str:
    source = f"secret_file = {_string(inject.file)}" if inject.file else f"secret_env_var = {_string(inject.env or '')}"
    return f"{{ name = {_string(inject.name)}, {source}, prefix = {_string(inject.prefix)} }}"


def _list(key: str, entries: Iterable[tuple[str, Place | None]]) -> Iterator[str]:
    lines = [_noted(f"    {_string(text)},", place) for text, place in entries]
    if not lines:
        yield f"{key} = []"
        return
    yield f"{key} = ["
    yield from lines
    yield "]"


def _scalar(key: str, value: object) -> str:
    if key in _ADDRESSES:
        return _string(f"http://{value}")
    return str(value).lower() if isinstance(value, bool) else _string(str(value))


def _noted(text: str, place: Place | None) -> str:
    if place is None:
        return f"{text}  # default"
    return f"{text}  # {place.file}:{place.line}" if place.line else text


def _strings(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_string, values))}]"


def _key(text: str) -> str:
    return text if _BARE_KEY.fullmatch(text) else _string(text)


def _string(text: str) -> str:
    """A TOML string on one line, with nothing in it that a terminal would act on."""
    return f'"{"".join(map(_character, text))}"'


def _character(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
