"""Real client programs, run in a clean environment that knows nothing but the proxy."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from .process import clean_environment
from .proxy import ProxyProcess

PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended."""

    code: int
    out: str
    err: str


def need(program: str) -> str:
    """The program's path. The test is skipped where it is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def proxy_environment(proxy: ProxyProcess) -> dict[str, str]:
    """Both spellings, as tools differ in which one they read."""
    url = f"http://{proxy.http}"
    names = ("http_proxy", "https_proxy", "all_proxy")
    return {spelling: url for name in names for spelling in (name, name.upper())}


def run(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> Done:
    """Runs to the end in `folder`, which is also its home."""
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=clean_environment(folder, **(environment or {})),
        input=stdin,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return Done(ended.returncode, ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace"))
