"""Child processes that start clean, say when they are ready, and are always gone afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

REPO = Path(__file__).resolve().parents[2]
PATIENCE = 15.0


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """No proxy, no CA and no user settings of the machine: only PATH, a home folder and `more`."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC", **more}


class Process:
    """A command whose output is collected line by line. Use it as a context manager."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> None:
        self.command = [str(part) for part in command]
        self.environment = dict(environment)
        self.folder = folder
        self.output = ""
        self._changed = threading.Condition()
        self._child: subprocess.Popen[str] | None = None

    @property
    def child(self) -> subprocess.Popen[str]:
        assert self._child is not None, "not started"
        return self._child

    def start(self) -> Self:
        self._child = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._collect, args=(self._child,), daemon=True)
        self._reader.start()
        return self

    def _collect(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            with self._changed:
                self.output += line
                self._changed.notify_all()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(5)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._child.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)  # Whatever it left behind in its own session.
        self._reader.join(PATIENCE)
        assert self._child.stdout is not None
        self._child.stdout.close()

    def until(self, true: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Returns as soon as `true()`. Fails when the process ends first, or after `patience` seconds."""
        deadline = time.monotonic() + patience
        while not true():
            if self.child.poll() is not None and not true():
                raise AssertionError(f"ended with {self.child.returncode} before {what}:\n{self.output}")
            assert time.monotonic() < deadline, f"not within {patience} s: {what}\n{self.output}"
            self._wait_a_moment()

    def _wait_a_moment(self) -> None:
        """Ends early when the process does, or when it prints something."""
        with self._changed:
            self._changed.wait(0.01)

    def until_printed(self, text: str, patience: float = PATIENCE) -> None:
        self.until(lambda: text in self.output, f"printing {text!r}", patience)

    def ended(self, patience: float = PATIENCE) -> int:
        """The exit code, once the process has ended by itself and all its output has been read."""
        try:
            code = self.child.wait(patience)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"still running after {patience} s:\n{self.output}") from late
        self._reader.join(PATIENCE)
        return code

    def stop(self, how: signal.Signals = signal.SIGTERM, patience: float = PATIENCE) -> int:
        """Sends `how` and returns the exit code."""
        self.child.send_signal(how)
        return self.ended(patience)

    def family(self) -> list[int]:
        """The process and its children, as Linux knows them."""
        found, fresh = [], [self.child.pid]
        while fresh:
            pid = fresh.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                fresh += [int(child) for child in task.read_text().split()]
        return found

    def descriptors(self) -> int:
        """Open descriptors of the process and its children."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.family())

    def resident(self) -> int:
        """Bytes of memory in use by the process and its children."""
        return sum(_resident(pid) for pid in self.family())


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def python(*arguments: str | Path) -> list[str | Path]:
    """This interpreter, without the current folder on its path."""
    return [sys.executable, "-P", *arguments]
