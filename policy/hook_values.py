"""What a hook's query keys and headers may hold: exact texts and globs (spec A4.6, B7.3, B7.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from .errors import InvalidPattern

_UNSUPPORTED = frozenset("?[]{}\\")
_GLOB_PIECE = re.compile(r"\*\*|\*|[^*]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def split_syntax(entry: str) -> tuple[bool, str]:
    """Whether an entry is a glob, and its text without the word `pattern:` or `literal:` in front."""
    if entry.startswith("pattern:"):
        return True, entry.removeprefix("pattern:")
    return False, entry.removeprefix("literal:")


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern with stars that holds for a whole text, found in one pass whatever the text or the pattern.

    Bit n of a state means: the first n plain characters of the pattern have been seen. A star lets a state stay
    where it is; nothing is tried twice, so no text takes long.
    """

    text: str
    separator: str
    advance: Mapping[str, int] = field(repr=False, compare=False)
    stay: int = field(repr=False, compare=False)
    stay_in_segment: int = field(repr=False, compare=False)
    end: int = field(repr=False, compare=False)

    def match(self, text: str) -> bool:
        state = 1
        for char in text:
            stay = self.stay if char == self.separator else self.stay | self.stay_in_segment
            state = (state & self.advance.get(char, 0)) << 1 | state & stay
            if not state:
                return False
        return bool(state & self.end)


def compile_glob(text: str, *, separator: str = "") -> Glob:
    """Compiles a glob: `*` is any run of characters without the separator, `**` any run at all.

    Without a separator both cross everything. Raises `InvalidPattern` when it is empty or holds one of `?[]{}` or
    a backslash, which mean different things to different readers.
    """
    if not text or not _UNSUPPORTED.isdisjoint(text):
        # Without the text: a header's value may be a secret.
        raise InvalidPattern("invalid glob pattern; write `*` and `**` only, or `literal:` for plain text")
    advance: dict[str, int] = {}
    stay = stay_in_segment = length = 0
    for piece in _GLOB_PIECE.findall(text):
        if piece == "**" or (piece == "*" and not separator):
            stay |= 1 << length
        elif piece == "*":
            stay_in_segment |= 1 << length
        else:
            advance[piece] = advance.get(piece, 0) | 1 << length
            length += 1
    return Glob(text, separator, advance, stay, stay_in_segment, 1 << length)


@dataclass(frozen=True, slots=True)
class ValuePatterns:
    """The values one query key or header may have."""

    exact: frozenset[str]
    globs: tuple[Glob, ...]

    def __bool__(self) -> bool:
        return bool(self.exact or self.globs)

    def match(self, value: str) -> bool:
        return value in self.exact or any(glob.match(value) for glob in self.globs)

    def match_all(self, values: Sequence[str]) -> bool:
        """At least one value, and none outside the list (spec A4.6)."""
        return bool(values) and all(self.match(value) for value in values)


Constraint = tuple[str, ValuePatterns]
"""A query key, or a lower-case header name, and what it may hold."""


def compile_values(entries: Iterable[str]) -> ValuePatterns:
    """Compiles allowed values: `pattern:` globs, and exact texts with or without `literal:`.

    Raises `InvalidPattern` for a bad glob.
    """
    split = [split_syntax(entry) for entry in entries]
    exact = frozenset(text for is_glob, text in split if not is_glob)
    return ValuePatterns(exact, tuple(compile_glob(text) for is_glob, text in split if is_glob))


def query_holds(constraints: Sequence[Constraint], query: str) -> bool:
    """Whether a raw query has every constrained key, with allowed values only.

    A query that does not decode holds for no constraint. Some servers part fields at `;` as well: a query with
    one must hold in both readings.
    """
    if not constraints:
        return True
    readings = (query, query.replace(";", "&")) if ";" in query else (query,)
    return all(_fields_hold(constraints, parse_form(reading)) for reading in readings)


def _fields_hold(constraints: Sequence[Constraint], fields: Sequence[tuple[str, str]] | None) -> bool:
    if fields is None:
        return False
    return all(patterns.match_all([value for name, value in fields if name == key]) for key, patterns in constraints)


def parse_form(query: str) -> list[tuple[str, str]] | None:
    """Decodes a form-encoded query (WHATWG URL 5.1), or None when it is malformed.

    Malformed is a bad escape, text that is not UTF-8, or a control character in a name, where servers written in
    C would end it.
    """
    if _BAD_ESCAPE.search(query):
        return None
    try:
        fields = [(_decode(name), _decode(value)) for name, _, value in _partition(query)]
    except UnicodeDecodeError:
        return None
    return None if any(_CONTROL.search(name) for name, _ in fields) else fields


def _partition(query: str) -> Iterable[tuple[str, str, str]]:
    return (piece.partition("=") for piece in query.split("&") if piece)


def _decode(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8")


def headers_hold(constraints: Sequence[Constraint], headers: Sequence[tuple[str, str]]) -> bool:
    """Whether every constrained header is there, each occurrence with an allowed value.

    Without a list of values being there is enough. Names have no case; values are compared whole, are never split
    at commas, and never match when they are not ASCII. A header that `Connection` names does not reach the server,
    so it does not count.
    """
    if not constraints:
        return True
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value)
    hop_by_hop = {token.strip().lower() for value in values.get("connection", ()) for token in value.split(",")}
    return all(
        name not in hop_by_hop and _header_holds(patterns, values.get(name, [])) for name, patterns in constraints
    )


def _header_holds(patterns: ValuePatterns, values: Sequence[str]) -> bool:
    if not patterns:
        return bool(values)
    return all(value.isascii() for value in values) and patterns.match_all(values)
