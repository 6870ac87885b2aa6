"""The proxy in a terminal of its own: what a person would see in it, and type."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import termios
import threading
from typing import Self

from .proxy import ProxyProcess


class TerminalProxy(ProxyProcess):
    """`codex-proxy serve` whose input and output are a terminal. It does not echo what is typed."""

    def start(self) -> Self:
        self._keyboard, screen = pty.openpty()
        _no_echo(screen)
        child: subprocess.Popen[str] = subprocess.Popen(
            self.command, cwd=self.folder, env=self.environment, stdin=screen, stdout=screen, stderr=screen,
            text=True, start_new_session=True,
        )  # fmt: skip
        os.close(screen)
        # Where the output of other processes is read from, and what is closed in the end.
        child.stdout = os.fdopen(self._keyboard, encoding="utf-8", errors="replace")
        self._child = child
        self._reader = threading.Thread(target=self._collect, args=(child,), daemon=True)
        self._reader.start()
        return self

    def _collect(self, child: subprocess.Popen[str]) -> None:
        with contextlib.suppress(OSError):  # how the end of a terminal is read on Linux
            super()._collect(child)

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    def question(self, about: str) -> int:
        """The number of the first question about this target, once it is shown."""
        shown = re.compile(rf"^\[(\d+)\] \S+ to {re.escape(about)} ", re.MULTILINE)
        self.until(lambda: shown.search(self.output) is not None, f"a question about {about}")
        found = shown.search(self.output)
        assert found
        return int(found[1])

    def questions(self) -> list[str]:
        """Every question so far: door and target."""
        return re.findall(r"^\[\d+\] (\S+ to \S+) .*is not listed", self.output, re.MULTILINE)


def _no_echo(screen: int) -> None:
    settings = termios.tcgetattr(screen)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(screen, termios.TCSANOW, settings)
