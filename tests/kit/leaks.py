"""What a process holds: descriptors, threads, tasks and signal handlers. To be the same after as before."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holdings:
    """Taken by `holdings`; compare two of them."""

    descriptors: tuple[str, ...]
    threads: tuple[str, ...]
    tasks: int
    handlers: tuple[object, ...]
    log_handlers: tuple[logging.Handler, ...]
    environment: tuple[tuple[str, str], ...]
    frozen: int

    def beyond(self, before: Holdings) -> list[str]:
        """What is held now and was not then. Servers of the test may meanwhile have let go of something."""
        found = [*(Counter(self.descriptors) - Counter(before.descriptors)).elements()]
        found += (Counter(self.threads) - Counter(before.threads)).elements()
        found += ["a task"] * (self.tasks - before.tasks)
        found += ["a frozen object"] * (self.frozen - before.frozen)  # those of an earlier test may die at any time
        same = ("handlers", "log_handlers", "environment")
        return found + [name for name in same if getattr(self, name) != getattr(before, name)]


def holdings() -> Holdings:
    """What the process, and the running loop when there is one, hold now."""
    gc.collect()
    return Holdings(
        _descriptors(),
        tuple(sorted(thread.name for thread in threading.enumerate())),
        _tasks(),
        tuple(signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)),
        tuple(logging.getLogger().handlers),
        tuple(sorted((name, value) for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST")),
        gc.get_freeze_count(),
    )


def _descriptors() -> tuple[str, ...]:
    """What each descriptor is: `socket`, `anon_inode:[eventpoll]`, or a path. Numbers differ each time."""
    if not Path("/proc/self/fd").is_dir():
        return ("descriptor",) * len(os.listdir("/dev/fd"))  # macOS tells their number only
    kinds = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            kinds.append(re.sub(r"^(socket|pipe):\[\d+\]$", r"\1", os.readlink(entry)))
        except OSError:
            continue  # the one of the listing itself
    return tuple(sorted(kinds))


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0
