"""A copy of the product's sources that a test may break."""

from __future__ import annotations

import shutil
from pathlib import Path

from .process import REPO

FOLDERS = ("addons", "policy", "socks", "scripts", "codex_network_proxy")


def copy_checkout(folder: Path) -> Path:
    """The folders of the product, in `folder`. Returns the path of its `codex.py`."""
    for name in FOLDERS:
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "addons" / "codex.py"
