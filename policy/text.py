"""Text from the wire or from an operator, made safe to show: no control characters, no invisible ones, no end."""

from __future__ import annotations

SHOWN_LIMIT = 256
"""Characters of one untrusted value that are shown; a header may be 64 KiB long."""


def printable(text: str, limit: int = SHOWN_LIMIT) -> str:
    r"""The text with everything that does not print written as `\x1b` or `\u202e`, and cut after `limit`.

    Terminal escapes, line breaks and direction marks lose their power, also after a JSON reader undid its own
    escapes. A backslash stays as it is: the result is for reading, not for parsing back.
    """
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(char if char.isprintable() else _escape(char) for char in text[:limit])
    return shown if len(text) <= limit else shown + "…"


def numbered(count: int, noun: str) -> str:
    """`1 request`, `2 requests`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
