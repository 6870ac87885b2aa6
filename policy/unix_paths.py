"""Unix socket paths, compared as text (spec B1.8)."""

from __future__ import annotations

import posixpath

LONGEST = 1023
"""Bytes of a path that a request may name. Every segment costs a look at the file system."""

ADDRESS_LIMIT = 103
"""Bytes of a path that a socket can be connected under on every system; macOS is the one with the least."""


def normalize_socket_path(text: str) -> str:
    """The path with `.`, `..` and doubled slashes collapsed. Looks at no file, expands no `~`."""
    path = posixpath.normpath(text)
    # POSIX leaves the meaning of exactly two leading slashes open, and normpath keeps them.
    return path[1:] if path.startswith("//") else path


def is_plain_path(text: str) -> bool:
    """Whether a path from a request is worth a look: absolute, not too long, printable, and read in one way only.

    With `..` the text may name another file than the system would open, where a symlink stands before it. Nothing is
    ever decoded, so a `%00` was meant for somebody who does.
    """
    if not text.startswith("/") or len(text) > LONGEST:
        return False
    return text.isascii() and text.isprintable() and "%00" not in text and ".." not in text.split("/")
