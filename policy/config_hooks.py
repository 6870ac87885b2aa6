"""Hooks from both forms, the list and the named tables, as one ordered tuple (spec B1.3, B7.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .config_tables import ActionsTable, HookTable, InjectTable, MatchTable, MitmTable, NamedHookTable
from .hosts import Host
from .profiles import Finding, nearest
from .settings import Constraints, HookSettings, InjectSettings, Place
from .toml_lines import Path

PlaceOf = Callable[[Path], Place]
"""Says where in the file a path of the network table stands."""

PlacedHooks = tuple[tuple[Path, HookSettings], ...]
"""Each hook, and where in the network table it stands."""


@dataclass(frozen=True, slots=True)
class _Source:
    """One hook of either form, and where it and its actions stand."""

    path: Path
    host: Host
    match: MatchTable
    actions: Sequence[tuple[Path, ActionsTable]]


def placed_hooks(listed: Sequence[HookTable], mitm: MitmTable, place_of: PlaceOf) -> PlacedHooks:
    """The hooks in the order they are tried: the list first, then the named ones as the file has them."""
    sources = [*_listed(listed), *_named(mitm)]
    return tuple((source.path, _settings(index, source, place_of)) for index, source in enumerate(sources))


def unknown_actions(mitm: MitmTable) -> Iterator[Finding]:
    """Names in `action` that `mitm.actions` does not define. They are ignored (spec B1.3), but not in silence."""
    for name, hook in mitm.hooks.items():
        for index, action in enumerate(hook.action):
            if action not in mitm.actions:
                message = f"is not defined in mitm.actions and does nothing; {nearest(action, mitm.actions, 'actions')}"
                yield Finding(("mitm", "hooks", name, "action", index), message, action)


def _listed(hooks: Sequence[HookTable]) -> Iterator[_Source]:
    for index, hook in enumerate(hooks):
        path: Path = ("mitm_hooks", index)
        yield _Source(path, hook.host, hook.match, [((*path, "actions"), hook.actions)])


def _named(mitm: MitmTable) -> Iterator[_Source]:
    for name, hook in mitm.hooks.items():
        yield _Source(("mitm", "hooks", name), hook.host, hook, list(_actions(hook, mitm.actions)))


def _actions(hook: NamedHookTable, known: Mapping[str, ActionsTable]) -> Iterator[tuple[Path, ActionsTable]]:
    for name in hook.action:
        if name in known:
            yield ("mitm", "actions", name), known[name]


def _settings(index: int, source: _Source, place_of: PlaceOf) -> HookSettings:
    match = source.match
    return HookSettings(
        index=index,
        host=source.host,
        methods=match.methods,
        path_prefixes=match.path_prefixes,
        query=tuple(match.query.items()),
        headers=_lower_names(match.headers),
        strip=tuple(name.lower() for _, actions in source.actions for name in actions.strip_request_headers),
        inject=tuple(
            _inject(entry, place_of((*path, "inject_request_headers", position)))
            for path, actions in source.actions
            for position, entry in enumerate(actions.inject_request_headers)
        ),
        place=place_of(source.path),
    )


def _lower_names(headers: Mapping[str, tuple[str, ...]]) -> Constraints:
    return tuple((name.lower(), values) for name, values in headers.items())


def _inject(entry: InjectTable, place: Place) -> InjectSettings:
    return InjectSettings(entry.name.lower(), entry.secret_env_var, entry.secret_file, entry.prefix, place)
