"""Questions in the terminal that the proxy was started in: a numbered line each, answered with `1a`, `1r` or `1d`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable

from .asking import Answer, Question

KEYS = {"a": Answer.ONCE, "r": Answer.RUN, "d": Answer.DENY, "n": Answer.NEVER}

LINE_LIMIT = 4096
FOREGROUND_INTERVAL = 1.0
"""Seconds between two looks whether the proxy is in the foreground again."""

_LINE = re.compile(r"\s*(?P<number>\d{1,9})?\s*(?P<key>[a-z])\s*", re.ASCII | re.IGNORECASE)


class Terminal:
    """Shows questions with `write`, reads answers from the terminal behind the descriptor `fd`.

    An answer without number is for the only question there is; never for one that took the place of another.
    """

    def __init__(self, fd: int, write: Callable[[str], object]) -> None:
        self._fd = fd
        self._write = write
        self._asked: dict[int, tuple[Question, Callable[[Answer], None]]] = {}
        self._received = b""
        self._some_went = False  # since the last line that was typed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def open(self) -> bool:
        return self._loop is not None

    def start(self) -> None:
        """Reads from now on, in the running loop: what was typed before a question is no answer to it."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._ready)

    def close(self) -> None:
        """Neither shows nor reads anything more. Harmless when called again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._fd)
            self._loop = None
        self._asked.clear()

    def show(self, question: Question, answer: Callable[[Answer], None]) -> None:
        self._asked[question.number] = (question, answer)
        number = question.number
        self._say(
            number,
            f"{question.door} to {question.target} (from {question.client}) is not listed. Allow it? "
            f"{number}a once, {number}r for this run, {number}d no, {number}n not in this run",
        )

    def withdraw(self, question: Question, outcome: str) -> None:
        if self._asked.pop(question.number, None):
            self._some_went = True
            self._say(question.number, f"{question.target}: {outcome}")

    def _say(self, number: int, text: str) -> None:
        self._write(f"[{number}] {text}\n")

    # -- what is typed -----------------------------------------------------------------------------------------------

    def _ready(self) -> None:
        if not self._in_foreground():
            self._pause()
            return
        try:
            data = os.read(self._fd, LINE_LIMIT)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            with contextlib.suppress(OSError):  # when it was hung up there is nobody to tell
                self._write("the terminal is closed; questions are not shown here any more\n")
            return
        *lines, self._received = (self._received + data).split(b"\n")
        self._received = self._received[-LINE_LIMIT:]
        for line in lines:
            self._typed(line.decode("utf-8", "replace"))

    def _typed(self, line: str) -> None:
        if not line.strip():
            return
        number, problem = self._meant(line)
        self._some_went = False
        if number is None:
            self._write(f"{problem}\n")
            return
        found = _LINE.fullmatch(line)
        assert found
        _, answer = self._asked[number]
        answer(KEYS[found["key"].lower()])
        self._some_went = False

    def _meant(self, line: str) -> tuple[int | None, str]:
        """The number of the question that the line answers, or what is wrong with it."""
        found = _LINE.fullmatch(line)
        if not self._asked:
            return None, "no question waits"
        example = next(iter(self._asked))
        if found is None or found["key"].lower() not in KEYS:
            return None, f"write the number and one letter: {example}a once, {example}r for this run, {example}d no"
        if found["number"] is not None:
            number = int(found["number"])
            return (number, "") if number in self._asked else (None, f"question {number} does not wait any more")
        if len(self._asked) > 1 or self._some_went:
            return None, f"write which one: {example}{found['key']}"
        return example, ""

    def _in_foreground(self) -> bool:
        """Reading in the background would stop the whole proxy."""
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # nobody's terminal, such as a test's
            return True

    def _pause(self) -> None:
        assert self._loop
        self._loop.remove_reader(self._fd)
        self._timer = self._loop.call_later(FOREGROUND_INTERVAL, self.start)
