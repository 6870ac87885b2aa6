"""Reads the configuration: text in, frozen values and warnings out, or everything that is wrong at once (spec A1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath

import tomli
from pydantic import ValidationError

from .config_hooks import placed_hooks, unknown_actions
from .config_problems import Document, findings
from .config_tables import DomainMap, MitmTable, NetworkTable, Patterns
from .errors import ConfigError, ConfigProblem, shown
from .lint import LintWarning, Subject, lint
from .modes import NetworkMode
from .origins import Origins
from .patterns import DomainPattern
from .profiles import Finding, GivenTable, Misconfigured, ProfileTable, Table, select_profile
from .settings import HookSettings, InjectSettings, NetworkSettings
from .toml_lines import Path

__all__ = [
    "HookSettings",
    "InjectSettings",
    "LintWarning",
    "LoadedConfig",
    "NetworkSettings",
    "default_config_text",
    "load_config",
    "load_table",
    "load_with_origins",
]

GIVEN = "config"
"""The name of a table that code gives, in messages."""

Entries = dict[DomainPattern, Path]
"""Patterns in order, each once, and where in the network table it stands first."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration that may be run. `profile` is `None` when the file selects none; then nothing is enabled."""

    settings: NetworkSettings
    warnings: tuple[LintWarning, ...] = ()
    profile: str | None = None


def default_config_text() -> str:
    """The profile that runs when there is no configuration file at all (spec A1.5)."""
    return FilePath(__file__).with_name("default_config.toml").read_text("utf-8")


def load_config(text: str, *, file: str, profile: str | None = None) -> LoadedConfig:
    """Checks the network table of the selected profile; all other tables are ignored.

    `file` names the text in messages, `profile` overrides `default_permissions`. Raises `ConfigError` with every
    problem. Reads no secret and no other file.
    """
    return load_with_origins(text, file=file, profile=profile)[0]


def load_with_origins(text: str, *, file: str, profile: str | None = None) -> tuple[LoadedConfig, Origins]:
    """As `load_config`, and where each part of it stands. That keeps the text and the table in memory."""
    document = Document(text, file)
    data = _parse(text, file)
    try:
        selected = select_profile(data, profile)
    except Misconfigured as error:
        raise ConfigError((document.problem(error.finding),)) from None
    if selected is None:
        nothing = LoadedConfig(NetworkSettings(), (document.warning(_nothing_selected(data)),))
        return nothing, Origins(document, None, None)
    return _checked(selected, document, selected.profile)


def _checked(selected: ProfileTable, document: Document, profile: str | None) -> tuple[LoadedConfig, Origins]:
    table = _check(selected, document)
    subject = _subject(table, selected, document)
    found = [*_notes(table), *lint(subject)]
    warnings = (document.warning(Finding(selected.source(each.path), each.message, each.value)) for each in found)
    return LoadedConfig(subject.settings, tuple(warnings), profile), Origins(document, selected, subject)


def load_table(values: Mapping[str, object]) -> LoadedConfig:
    """The same for a network table that code gives as a value, with the keys of the file.

    Raises `ConfigError` with every problem; places in it have no line. Warnings are those of a file, too.
    """
    document, given = Document("", GIVEN), GivenTable(GIVEN, dict(values), {})
    return _checked(given, document, None)[0]


def _parse(text: str, file: str) -> Table:
    try:
        return tomli.loads(text)
    except (ValueError, RecursionError) as error:
        # Older tomli has the place in its text alone. Errors without one come from numbers and nesting without end.
        found = re.search(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error), re.DOTALL)
        if found is None:
            message = "is not TOML: a number is too long, or lists are nested too deeply; write it shorter"
            raise ConfigError((ConfigProblem("TOML", message, file=file),)) from None
        line = int(found[2]) if found[2] else text.count("\n") + 1
        where = f"column {found[3]}" if found[3] else "end of file"
        message = f"is not TOML: {found[1]}; correct the line, or the one before it"
        raise ConfigError((ConfigProblem(where, message, line=line, file=file),)) from None


def _nothing_selected(data: Table) -> Finding:
    profiles = data.get("permissions")
    names = list(profiles) if isinstance(profiles, dict) else []
    why = "config defines `[permissions]` profiles but does not set `default_permissions`"
    message = why if names else "no permissions profile is selected"
    example = names[0] if names else "workspace"
    repair = f"so the proxy is disabled; write default_permissions = {shown(example)}"
    return Finding(("default_permissions",), f"{message}, {repair}")


def _check(selected: ProfileTable, document: Document) -> NetworkTable:
    try:
        return NetworkTable.model_validate(selected.values)
    except ValidationError as error:
        problems = [document.problem(found) for found in findings(error, selected)]
    raise ConfigError(tuple(sorted(problems, key=lambda problem: (problem.line is None, problem.line or 0))))


def _notes(table: NetworkTable) -> Iterator[Finding]:
    """Values that were replaced or ignored because the reference does so, which nobody would guess."""
    for key, address in (("proxy_url", table.proxy_url), ("socks_url", table.socks_url)):
        for note in address.notes:
            yield Finding((key,), note)
    if isinstance(table.mitm, MitmTable):
        yield from unknown_actions(table.mitm)


def _subject(table: NetworkTable, selected: ProfileTable, document: Document) -> Subject:
    named = table.mitm if isinstance(table.mitm, MitmTable) else MitmTable()
    hooks = placed_hooks(table.mitm_hooks, named, lambda path: document.place(selected.source(path)))
    allowed = _entries(table.allowed_domains, "allowed_domains", table.domains, "allow")
    denied = _entries(table.denied_domains, "denied_domains", table.domains, "deny")
    sockets = _open_sockets(table)
    settings = _settings(table, tuple(allowed), tuple(denied), tuple(sockets), tuple(hook for _, hook in hooks))
    return Subject(settings, allowed, denied, sockets, hooks)


def _entries(listed: Iterable[DomainPattern], key: str, mapped: DomainMap, permission: str) -> Entries:
    """The patterns of the list and of the map that have one permission."""
    entries: Entries = {}
    for index, pattern in enumerate(listed):
        entries.setdefault(pattern, (key, index))
    for entry, value in mapped.items():
        if value == permission:
            entries.setdefault(entry.pattern, ("domains", entry.spelling))
    return entries


def _open_sockets(table: NetworkTable) -> dict[str, Path]:
    """The socket paths that are allowed and not denied, each once, and where it stands first."""
    closed = _closed_sockets(table)
    listed: Iterable[tuple[str, Path]] = (
        *((path, ("allow_unix_sockets", index)) for index, path in enumerate(table.allow_unix_sockets)),
        *((key.path, ("unix_sockets", key.spelling)) for key in table.unix_sockets),
    )
    found: dict[str, Path] = {}
    for path, place in listed:
        if path not in closed:
            found.setdefault(path, place)
    return found


def _closed_sockets(table: NetworkTable) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key.path for key, value in table.unix_sockets.items() if value != "allow"))


def _settings(
    table: NetworkTable, allowed: Patterns, denied: Patterns, sockets: tuple[str, ...], hooks: tuple[HookSettings, ...]
) -> NetworkSettings:
    return NetworkSettings(
        enabled=table.enabled,
        http_listen=table.proxy_url.address,
        socks_listen=table.socks_url.address,
        enable_socks5=table.enable_socks5,
        enable_socks5_udp=table.enable_socks5_udp,
        allow_upstream_proxy=table.allow_upstream_proxy,
        allow_non_loopback=table.dangerously_allow_non_loopback_proxy,
        mode=table.mode,
        allowed=allowed,
        denied=denied,
        unix_sockets=sockets,
        denied_unix_sockets=_closed_sockets(table),
        allow_all_unix_sockets=table.dangerously_allow_all_unix_sockets,
        allow_local_binding=table.allow_local_binding,
        mitm=_is_mitm_on(table, hooks),
        hooks=hooks,
    )


def _is_mitm_on(table: NetworkTable, hooks: tuple[HookSettings, ...]) -> bool:
    """A switch in the old form; the table form switches itself on when there is something to inspect (spec B1.3)."""
    if isinstance(table.mitm, bool):
        return table.mitm
    return bool(hooks) or table.mode is NetworkMode.LIMITED
