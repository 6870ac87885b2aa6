"""Unix socket paths, compared as text (spec B1.8)."""

from __future__ import annotations

import posixpath


def normalize_socket_path(text: str) -> str:
    """The path with `.`, `..` and doubled slashes collapsed. Looks at no file, expands no `~`."""
    path = posixpath.normpath(text)
    # POSIX leaves the meaning of exactly two leading slashes open, and normpath keeps them.
    return path[1:] if path.startswith("//") else path
