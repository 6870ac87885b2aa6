"""Folders for unix sockets, whose addresses hold about a hundred bytes: less than a test's own folder needs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short name and without links in it; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="kit", dir="/tmp") as name:
        yield Path(name).resolve()
