"""Errors that name the place, echo the value and offer the repair."""

from __future__ import annotations

from dataclasses import dataclass


class InvalidHost(ValueError):
    """A host, port or authority that is not canonicalisable (spec A2.1). The text is safe to show to the client."""


class InvalidPattern(ValueError):
    """A domain pattern outside the pattern language (spec A2.2). The text says what to write instead."""


class ResolutionFailed(Exception):
    """A name that did not resolve: error, time-out or no address (spec A3). Never a policy block."""


class SecretUnavailable(Exception):
    """A hook's secret that cannot be read. The text never holds any part of the secret."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing wrong in the configuration file: where, what stands there, and what to write instead."""

    place: str
    message: str
    value: object = None
    line: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        value = "" if self.value is None else f" {self.value!r}"
        return " ".join(part for part in (f"{where}:" if where else "", f"{self.place}:{value}", self.message) if part)


class ConfigError(Exception):
    """Everything that is wrong with a configuration, all at once (spec A1.2)."""

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
