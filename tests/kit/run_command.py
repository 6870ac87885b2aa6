"""`codex-proxy run`: a command behind a proxy of its own, started as people start it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pytest

from .clients import Done, run
from .policies import Policy
from .process import REPO, Process, clean_environment, python
from .world import World


class Runner:
    """Runs commands with one configuration. `world` records look-ups and dials of the proxies."""

    def __init__(self, home: Path, policy: Policy, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.policy = policy
        self.world = World(home / "world")
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(policy.toml())
        self.audit_log = home / "log" / "network-proxy.jsonl"
        self.environment = {"CODEX_HOME": str(home), **self.world.environment, **(environment or {})}

    def command(self, *command: str | Path, options: Sequence[str] = ()) -> list[str | Path]:
        words = [REPO / "scripts" / "launch.py", "run", *self.policy.pin_arguments, *options, "--", *command]
        return python(*words)

    def run(self, *command: str | Path, options: Sequence[str] = (), stdin: bytes = b"") -> Done:
        """Runs to the end."""
        return run(self.command(*command, options=options), self.home, self.environment, stdin)

    def start(self, *command: str | Path, options: Sequence[str] = ()) -> Process:
        """Runs beside the test."""
        environment = clean_environment(self.home, **self.environment)
        return Process(self.command(*command, options=options), environment, self.home)


@lru_cache(maxsize=1)
def _has_namespaces() -> bool:
    attempt = "import os; os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)"
    return subprocess.run(python("-c", attempt), capture_output=True, check=False).returncode == 0


def need_namespaces() -> None:
    """The test is skipped where the kernel gives no network namespace to this user."""
    if not _has_namespaces():
        pytest.skip("this kernel gives no network namespace to this user")
