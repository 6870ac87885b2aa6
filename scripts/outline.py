"""What a parser takes, as plain data: for the shells that complete it and for the manual that describes it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path


class Kind(Enum):
    """What a word may be."""

    FILE = auto()
    CHOICE = auto()
    PROGRAM = auto()
    """A command line of somebody else; what follows belongs to it."""
    TEXT = auto()


@dataclass(frozen=True, slots=True)
class Value:
    """A word that the user writes. `name` is how the help calls it."""

    name: str
    kind: Kind
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """`flags` are its spellings; `value` is `None` for a switch."""

    flags: tuple[str, ...]
    value: Value | None
    help: str
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Positional:
    value: Value
    help: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command, in the order of its help."""

    name: str
    help: str
    options: tuple[Option, ...]
    positionals: tuple[Positional, ...]


def outline(parser: argparse.ArgumentParser) -> tuple[Command, ...]:
    """Every command of a parser that has commands."""
    (commands,) = (part for part in parser._actions if isinstance(part, argparse._SubParsersAction))
    lines = {part.dest: part.help or "" for part in commands._choices_actions}
    return tuple(_command(name, lines[name], each) for name, each in commands.choices.items())


def _command(name: str, line: str, parser: argparse.ArgumentParser) -> Command:
    actions = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
    return Command(
        name,
        line,
        tuple(_option(action) for action in actions if action.option_strings),
        tuple(Positional(_value(action), action.help or "") for action in actions if not action.option_strings),
    )


def _option(action: argparse.Action) -> Option:
    value = None if action.nargs == 0 else _value(action)
    return Option(tuple(action.option_strings), value, action.help or "", isinstance(action, argparse._AppendAction))


def _value(action: argparse.Action) -> Value:
    choices = tuple(str(choice) for choice in action.choices or ())
    name = action.metavar if isinstance(action.metavar, str) else "|".join(choices) or action.dest.upper()
    return Value(name, _kind(action), choices)


def _kind(action: argparse.Action) -> Kind:
    if action.choices:
        return Kind.CHOICE
    if action.type is Path:
        return Kind.FILE
    return Kind.PROGRAM if action.nargs in (argparse.REMAINDER, "+", "*") else Kind.TEXT
