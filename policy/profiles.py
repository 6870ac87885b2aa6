"""Which profile of the file counts, and what it inherits (spec B1.3, B1.4)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .errors import InvalidPattern, shown
from .patterns import parse_pattern
from .toml_lines import Path
from .unix_paths import normalize_socket_path

BUILT_IN_PARENTS = frozenset({":read-only", ":workspace"})
"""Profiles of the sandbox that may be extended; they say nothing about the network."""

Table = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at a path of the file, or of the command line when the path is empty."""

    path: Path
    message: str
    value: object = None


class Misconfigured(Exception):
    """The profile cannot be told; the finding says why."""

    def __init__(self, path: Path, message: str, value: object = None) -> None:
        super().__init__(message)
        self.finding = Finding(path, message, value)


@dataclass(frozen=True, slots=True)
class ProfileTable:
    """A profile's network table, its parents merged in, and which profile each of its parts came from."""

    profile: str
    values: Table
    origins: Mapping[Path, str]

    def source(self, path: Path) -> Path:
        """The place in the file of a path in `values`."""
        for length in range(len(path), 0, -1):
            if origin := self.origins.get(path[:length]):
                return _network(origin, *path)
        return _network(self.profile, *path)


@dataclass(frozen=True, slots=True)
class GivenTable(ProfileTable):
    """A network table that stands in no file and no profile."""

    def source(self, path: Path) -> Path:
        return ("network", *path)


def select_profile(data: Table, override: str | None) -> ProfileTable | None:
    """The network table of the profile that `default_permissions`, or `override`, names; `None` when neither does.

    Raises `Misconfigured`.
    """
    name = data.get("default_permissions") if override is None else override
    if name is None:
        return None
    if not isinstance(name, str):
        raise Misconfigured(("default_permissions",), "must be a string; write the name of a profile in quotes", name)
    setting, path = ("default_permissions", ("default_permissions",)) if override is None else ("--profile", ())
    if "permissions" not in data:
        raise Misconfigured(
            path,
            f"{setting} requires a `[permissions]` table for network settings; "
            f"write [{dotted(_network(name))}] with enabled = true and allowed_domains",
        )
    profiles = _table(data["permissions"], ("permissions",))
    if name not in profiles:
        message = f"{setting} refers to undefined profile `{name}`"
        raise Misconfigured(path, f"{message}; {nearest(name, profiles, 'profiles')}")
    return _inherit(profiles, name)


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """The repair for a name nobody knows: the one it resembles, or all there are."""
    choices = list(known)
    if close := difflib.get_close_matches(name, choices, 1, 0.6):
        return f"did you mean `{close[0]}`?"
    listed = ", ".join(f"`{choice}`" for choice in choices)
    return f"the {what} here are {listed}" if listed else f"there are no {what} here"


def dotted(path: Path) -> str:
    """The path as messages show it: `permissions.workspace.network.mitm_hooks[0].host`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if part.isascii() and part.replace("-", "_").isidentifier() else f".{shown(part)}"
    return text.removeprefix(".")


def _inherit(profiles: Table, name: str) -> ProfileTable:
    merged: dict[str, object] = {}
    origins: dict[Path, str] = {}
    for ancestor in reversed(_lineage(profiles, name)):
        path = ("permissions", ancestor)
        profile = _table(profiles[ancestor], path)
        network = _table(profile.get("network", {}), (*path, "network"))
        merged = _merge(merged, network, (), origins, ancestor)
    return ProfileTable(name, merged, origins)


def _lineage(profiles: Table, name: str) -> list[str]:
    """The profile and those it extends, nearest first."""
    lineage = [name]
    while (parent := _parent(profiles, lineage[-1])) is not None:
        if parent in lineage:
            cycle = " -> ".join([*lineage[lineage.index(parent) :], parent])
            raise Misconfigured(
                ("permissions", lineage[-1], "extends"),
                f"permissions profile inheritance cycle detected: {cycle}; remove one of these `extends`",
            )
        lineage.append(parent)
    return lineage


def _parent(profiles: Table, child: str) -> str | None:
    path: Path = ("permissions", child, "extends")
    parent = _table(profiles[child], path[:-1]).get("extends")
    if parent is None:
        return None
    if not isinstance(parent, str):
        raise Misconfigured(path, "must be a string; write the name of a profile in quotes", parent)
    if parent in BUILT_IN_PARENTS:
        return None
    if parent in profiles:
        return parent
    if parent.startswith(":"):
        message = f"permissions profile `{child}` cannot extend unsupported built-in profile `{parent}`"
        raise Misconfigured(path, f"{message}; {nearest(parent, sorted(BUILT_IN_PARENTS), 'built-in profiles')}")
    message = f"permissions profile `{child}` extends undefined profile `{parent}`"
    raise Misconfigured(path, f"{message}; {nearest(parent, profiles, 'profiles')}")


def _merge(parent: Table, child: Table, path: Path, origins: dict[Path, str], owner: str) -> dict[str, object]:
    """Tables are merged key by key; everything else of the child, named `owner`, replaces what the parent said."""
    same = _SAME_KEY.get(path, str)
    overridden = {same(key) for key in child}
    merged = {key: value for key, value in parent.items() if key in child or same(key) not in overridden}
    for key, value in child.items():
        inner = (*path, key)
        inherited = merged.get(key)
        if isinstance(value, dict) and isinstance(inherited, dict):
            merged[key] = _merge(inherited, value, inner, origins, owner)
        else:
            merged[key] = value
            origins[inner] = owner
    return merged


def _pattern_key(key: str) -> str:
    try:
        return parse_pattern(key).text
    except InvalidPattern:
        return key


_SAME_KEY: Mapping[Path, Callable[[str], str]] = {("domains",): _pattern_key, ("unix_sockets",): normalize_socket_path}


def _table(value: object, path: Path) -> Table:
    if isinstance(value, dict):
        return value
    raise Misconfigured(path, f"must be a table; write [{dotted(path)}]", value)


def _network(profile: str, *path: str | int) -> Path:
    return ("permissions", profile, "network", *path)
