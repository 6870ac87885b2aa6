"""What a proxy needs of the machine's memory while a test looks at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .proxy import ProxyProcess

GROWTH = 48 << 20
"""Bytes by which a proxy may grow, whatever passes through it."""

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory and descriptors are read from /proc"
)


class Memory:
    """How much the proxy's memory grew at most while it was looked at."""

    def __init__(self, proxy: ProxyProcess) -> None:
        self.proxy = proxy
        self.before = self.most = 0

    def __enter__(self) -> Memory:
        self.before = self.most = self.proxy.resident()
        return self

    def __exit__(self, *_: object) -> None:
        self.look()

    def look(self) -> None:
        self.most = max(self.most, self.proxy.resident())

    @property
    def growth(self) -> int:
        return self.most - self.before
