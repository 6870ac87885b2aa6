"""Errors that name the place, echo the value and offer the repair."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .text import printable

SHOWN_LENGTH = 60
"""Characters of a value that a message echoes; enough to recognise it, too few to flood a log."""

MESSAGE_LENGTH = 2_000
"""Characters of one whole problem line."""

_USER_INFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://|//|)[^/].*@", re.DOTALL)


class InvalidHost(ValueError):
    """A host, port or authority that is not canonicalisable (spec A2.1). The text is safe to show to the client."""


class InvalidPattern(ValueError):
    """A domain pattern outside the pattern language (spec A2.2). The text says what to write instead."""


class ResolutionFailed(Exception):
    """A name that did not resolve: error, time-out or no address (spec A3). Never a policy block."""


class SecretUnavailable(Exception):
    """A hook's secret that cannot be read. The text never holds any part of the secret."""


class PolicyChangeRefused(ValueError):
    """A change of the running policy that makes no sense, or that managed constraints do not allow (spec B9.3)."""


def shown(value: object) -> str:
    """A configuration value as the file spells it, fit for a log line: quoted, escaped, short, without user-info."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            text = _USER_INFO.sub(r"\1***@", value).replace("\\", "\\\\").replace('"', '\\"')
            return f'"{printable(text, SHOWN_LENGTH)}"'
        case dict():
            return "{…}"
        case list() | tuple():
            return "[…]"
        case _:
            return printable(str(value), SHOWN_LENGTH)


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing wrong in the configuration file: where, what stands there, and what to write instead (spec A1.2)."""

    place: str
    message: str
    value: object = None
    line: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        value = "" if self.value is None else shown(self.value)
        line = " ".join(part for part in (where, f"{self.place}:", value, self.message) if part)
        return printable(line, MESSAGE_LENGTH)


class ConfigError(Exception):
    """Everything that is wrong with a configuration, all at once (spec A1.2)."""

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
