"""Where each key and list element of a TOML text stands, so that a message can name the line.

The text must already have been parsed: this scanner trusts the grammar and only keeps count. Whatever it does not
recognise makes it answer "no idea" for the whole text, because a wrong line is worse than none.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping

import tomli

Path = tuple[str | int, ...]
"""Keys and list indices from the top of the file to one value."""

_SPACE = re.compile(r"[ \t]*")
_TRIVIA = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_KEY_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""")
_STRING = re.compile(
    r'''"""(?:\\.|[^\\])*?"""(?:"{0,2})'''
    r"""|'''.*?'''(?:'{0,2})"""
    r'''|"(?:\\.|[^"\\\n])*"'''
    r"""|'[^'\n]*'""",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\s#\[{\"'][^,\]}\n#]*")


class _Unsure(Exception):
    """The scanner met something it does not understand."""


def line_numbers(text: str) -> Mapping[Path, int]:
    """Line (from 1) of each table, key and list element in a valid TOML text; empty when in doubt. Never raises.

    A table's line is the first one that names it. Elements of an array of tables have the line of their header.
    """
    try:
        return _Scanner(text).scan()
    except (_Unsure, RecursionError):
        return {}


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._newlines = [match.start() for match in re.finditer("\n", self._text)]
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._tables_in: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while self._next_token():
            line = self._line()
            if self._accept("[["):
                table = self._open_array_table(self._key(), line)
                self._expect("]]")
            elif self._accept("["):
                table = self._open_table(self._key(), line)
                self._expect("]")
            else:
                self._key_and_value(table)
        return self._lines

    def _open_table(self, keys: list[str], line: int) -> Path:
        path: Path = ()
        for key in keys:
            path = (*path, key)
            self._lines.setdefault(path, line)
            if path in self._tables_in:
                path = (*path, self._tables_in[path])
        return path

    def _open_array_table(self, keys: list[str], line: int) -> Path:
        path = (*self._open_table(keys[:-1], line), keys[-1])
        self._lines.setdefault(path, line)
        self._tables_in[path] = self._tables_in.get(path, -1) + 1
        element = (*path, self._tables_in[path])
        self._lines[element] = line
        return element

    def _key_and_value(self, table: Path) -> None:
        line = self._line()
        path = table
        for key in self._key():
            path = (*path, key)
            self._lines.setdefault(path, line)
        self._expect("=")
        self._take(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._accept("["):
            self._array(path)
        elif self._accept("{"):
            while self._next_token() != "}":
                self._key_and_value(path)
                self._next_token()
                self._accept(",")
            self._expect("}")
        else:
            self._take(_STRING, _SCALAR)

    def _array(self, path: Path) -> None:
        index = 0
        while self._next_token() != "]":
            element = (*path, index)
            self._lines[element] = self._line()
            self._value(element)
            self._next_token()
            self._accept(",")
            index += 1
        self._expect("]")

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._take(_SPACE)
            parts.append(_unquoted(self._take(_KEY_PART)))
            self._take(_SPACE)
            if not self._accept("."):
                return parts

    def _line(self) -> int:
        return bisect_left(self._newlines, self._at) + 1

    def _next_token(self) -> str:
        """Skips blanks, line ends and comments; the character that follows, empty at the end."""
        self._take(_TRIVIA)
        return self._text[self._at : self._at + 1]

    def _accept(self, token: str) -> bool:
        found = self._text.startswith(token, self._at)
        self._at += len(token) if found else 0
        return found

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise _Unsure

    def _take(self, *shapes: re.Pattern[str]) -> str:
        for shape in shapes:
            if found := shape.match(self._text, self._at):
                self._at = found.end()
                return found.group()
        raise _Unsure


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    value: str = tomli.loads(f"key = {key}")["key"]
    return value
