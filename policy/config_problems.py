"""Turns what is wrong into lines that name the place, echo the value and offer the repair (spec A1.2)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from .config_tables import (
    ActionsTable,
    HookTable,
    InjectTable,
    MatchTable,
    MitmTable,
    NamedActionsTable,
    NamedHookTable,
    NetworkTable,
)
from .errors import ConfigProblem, shown
from .lint import LintWarning
from .profiles import Finding, ProfileTable, dotted, nearest
from .settings import Place
from .toml_lines import Path, line_numbers

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_REPAIRS = {
    "bool_type": "must be a boolean; write true or false",
    "string_type": "must be a string; write it in quotes",
    "tuple_type": "must be a list; write it in square brackets",
    "dict_type": "must be a table; write keys and values",
    "model_type": "must be a table; write keys and values",
    "enum": 'is not a mode; write "limited" or "full"',
    "literal_error": 'is not a permission; write "allow" or "deny"',
}

_SECRETIVE = frozenset({"body", "headers", "inject_request_headers", "query"})
"""Tables whose values may be secrets, or keys to them; a message never echoes those."""


class Document:
    """One configuration text and its name: says where a path of it stands. Counts lines only when asked."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file

    @cached_property
    def _lines(self) -> dict[Path, int]:
        return dict(line_numbers(self._text))

    def place(self, path: Path) -> Place:
        """Where a path stands. What is missing has the line of the table that lacks it."""
        above = (path[:length] for length in range(len(path), 0, -1))
        line = next((self._lines[part] for part in above if part in self._lines), None)
        return Place(dotted(path), line, self._file)

    def problem(self, finding: Finding) -> ConfigProblem:
        if not finding.path:
            return ConfigProblem("--profile", finding.message)
        place = self.place(finding.path)
        return ConfigProblem(place.path, finding.message, _value_once(finding), place.line, place.file)

    def warning(self, finding: Finding) -> LintWarning:
        place = self.place(finding.path)
        return LintWarning(place.path, finding.message, _value_once(finding), place.line, place.file)


def _value_once(finding: Finding) -> object:
    """The value, unless the message echoes it itself."""
    return None if shown(finding.value) in finding.message else finding.value


def findings(error: ValidationError, table: ProfileTable) -> Iterable[Finding]:
    """Everything pydantic found, at its place in the file."""
    for detail in error.errors(include_url=False):
        where = _location(detail["loc"], table.values)
        yield Finding(table.source(where), _message(detail, where), _echo(detail, where))


def _location(loc: Path, values: object) -> Path:
    """Pydantic names a bad key with an extra `[key]` behind it, which the file does not have."""
    if loc[-1] != "[key]":
        return loc
    for part in loc[:-1]:
        values = values[part]  # type: ignore[index]
    return loc if isinstance(values, dict) else loc[:-1]


def _message(detail: ErrorDetails, where: Path) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown key; {nearest(str(where[-1]), _table_at(where[:-1]).model_fields, 'keys')}"
    if "error" in detail.get("ctx", {}):
        return str(detail["ctx"]["error"])
    return _REPAIRS.get(detail["type"], "is not valid; look the key up in the README")


def _echo(detail: ErrorDetails, where: Path) -> object:
    """The value to show; never that of an unknown key, which may be a secret in the wrong place."""
    value = detail["input"]
    hidden = detail["type"] == "extra_forbidden" or not _SECRETIVE.isdisjoint(where)
    return value if isinstance(value, bool | int | float | str) and value != "" and not hidden else None


def _table_at(path: Path) -> type[BaseModel]:
    """The shape that the table at a path of the network table must have."""
    match path:
        case (*_, "inject_request_headers", int()):
            return InjectTable
        case ("mitm_hooks", int()):
            return HookTable
        case ("mitm_hooks", int(), "match"):
            return MatchTable
        case ("mitm_hooks", int(), "actions"):
            return ActionsTable
        case ("mitm",):
            return MitmTable
        case ("mitm", "hooks", _):
            return NamedHookTable
        case ("mitm", "actions", _):
            return NamedActionsTable
        case _:
            return NetworkTable
