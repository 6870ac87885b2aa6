"""What is typed answers the question that was meant, or none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from codex_network_proxy.addons import ask_terminal
from codex_network_proxy.addons.ask_terminal import Terminal
from codex_network_proxy.addons.asking import Answer, Question
from codex_network_proxy.policy.decision import NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.hosts import parse_endpoint

ONCE, RUN, DENY, NEVER = Answer


class Desk:
    """A terminal whose keyboard is a pipe, and the questions on it."""

    def __init__(self, keyboard: int) -> None:
        self.lines: list[str] = []
        self.answers: list[tuple[int, Answer]] = []
        self.answered = asyncio.Event()
        self._keyboard = keyboard

    def start(self, fd: int) -> None:
        self.terminal = Terminal(fd, self.lines.append)
        self.terminal.start()

    def question(self, number: int) -> Question:
        target = parse_endpoint(f"h{number}.test:443")
        request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, target, client_address="127.0.0.1:5")
        return Question(number, request)

    def show(self, *numbers: int) -> None:
        for number in numbers:
            self.terminal.show(self.question(number), lambda answer, number=number: self._answered(number, answer))  # type: ignore[misc]  # the number of this turn

    def _answered(self, number: int, answer: Answer) -> None:
        self.answers.append((number, answer))
        self.answered.set()
        self.terminal.withdraw(self.question(number), answer.value)

    def hang_up(self) -> None:
        """The pipe has no writer any more."""
        with open(os.devnull, "wb") as other:
            os.dup2(other.fileno(), self._keyboard)

    async def type(self, text: str | bytes) -> None:
        """Returns when the loop has seen it."""
        os.write(self._keyboard, text if isinstance(text, bytes) else text.encode())
        for _ in range(3):
            await asyncio.sleep(0)


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def at(body: Callable[[Desk], Awaitable[None]]) -> Desk:
    async def within(reader: int, writer: int) -> Desk:
        desk = Desk(writer)
        desk.start(reader)
        try:
            await body(desk)
        finally:
            desk.terminal.close()
        return desk

    with pipe() as (reader, writer):
        return asyncio.run(within(reader, writer))


def test_a_question_is_one_line_that_says_how_to_answer() -> None:
    async def body(desk: Desk) -> None:
        desk.show(7)

    assert at(body).lines == [
        "[7] CONNECT to h7.test:443 (from 127.0.0.1:5) is not listed. Allow it? "
        "7a once, 7r for this run, 7d no, 7n not in this run\n"
    ]


@pytest.mark.parametrize(
    ("shown", "typed", "answers"),
    [
        pytest.param([1], "1a\n", [(1, ONCE)], id="a allows once"),
        pytest.param([1], "1r\n", [(1, RUN)], id="r allows for the run"),
        pytest.param([1], "1d\n", [(1, DENY)], id="d denies"),
        pytest.param([1], "1n\n", [(1, NEVER)], id="n denies for the run"),
        pytest.param([1], "a\n", [(1, ONCE)], id="the only question needs no number"),
        pytest.param([12], "  12  A \n", [(12, ONCE)], id="spaces and capitals do no harm"),
        pytest.param([1, 2], "2r\n1d\n", [(2, RUN), (1, DENY)], id="questions are answered in any order"),
        pytest.param([1, 2], "a\n", [], id="without a number nobody knows which of two is meant"),
        pytest.param([1, 2], "1d\na\n", [(1, DENY), (2, ONCE)], id="a question that is left alone needs no number"),
        pytest.param([1], "2a\n", [], id="a number that is not asked answers nothing"),
        pytest.param([1], "1a\n1r\n", [(1, ONCE)], id="an answer is given once"),
        pytest.param([], "a\n", [], id="without a question there is nothing to answer"),
        pytest.param([1], "yes\n", [], id="words are no answers"),
        pytest.param([1], "y\n", [], id="nor are other letters"),
        pytest.param([1], "1aa\n", [], id="nor is more than one letter"),
        pytest.param([1], "\u0661a\n", [], id="nor is a number in other digits"),
        pytest.param([1], "\n \n", [], id="an empty line is none"),
        pytest.param([1], "1", [], id="half a line is none yet"),
        pytest.param([1], "x" * 100_000 + "\n1a\n", [(1, ONCE)], id="a line without end does no harm"),
        pytest.param([1], "\x1b[A\udcff\n", [], id="keys that are no letters do no harm"),
        pytest.param([1], "1\u0430\n", [], id="nor do letters that look like others"),
    ],
)
def test_typed(shown: list[int], typed: str, answers: list[tuple[int, Answer]]) -> None:
    async def body(desk: Desk) -> None:
        desk.show(*shown)
        data = typed.encode("utf-8", "surrogateescape")
        for start in range(0, len(data), 10_000):
            await desk.type(data[start : start + 10_000])

    assert at(body).answers == answers


def test_a_letter_meant_for_a_question_that_went_answers_no_other() -> None:
    async def body(desk: Desk) -> None:
        desk.show(1)
        desk.terminal.withdraw(desk.question(1), "no answer within 60 s, denied")
        desk.show(2)
        await desk.type("a\n")
        assert desk.lines[-1] == "write which one: 2a\n"
        await desk.type("a\n")

    assert at(body).answers == [(2, ONCE)]


def test_what_was_typed_before_there_was_a_question_does_not_answer_it() -> None:
    async def body(desk: Desk) -> None:
        await desk.type("a\n")
        assert desk.lines == ["no question waits\n"]
        desk.show(1)

    assert at(body).answers == []


def test_an_answer_in_pieces_counts_when_it_is_whole() -> None:
    async def body(desk: Desk) -> None:
        desk.show(1)
        await desk.type("1")
        await desk.type("r")
        assert desk.answers == []
        await desk.type("\n")

    assert at(body).answers == [(1, RUN)]


def test_the_end_of_the_input_closes_the_channel() -> None:
    async def body(desk: Desk) -> None:
        desk.show(1)
        assert desk.terminal.open
        desk.hang_up()
        await desk.type("")
        assert not desk.terminal.open

    assert at(body).lines[-1] == "the terminal is closed; questions are not shown here any more\n"


def test_in_the_background_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(desk: Desk) -> None:
        desk.show(1)
        in_front = [False]
        monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp() if in_front[0] else -1)
        monkeypatch.setattr(ask_terminal, "FOREGROUND_INTERVAL", 0.0)
        await desk.type("1a\n")
        assert desk.answers == []
        in_front[0] = True
        await desk.answered.wait()

    assert at(body).answers == [(1, ONCE)]


def test_after_the_end_nothing_is_shown() -> None:
    async def body(desk: Desk) -> None:
        desk.show(1)
        desk.terminal.close()
        desk.lines.clear()
        desk.terminal.withdraw(desk.question(1), "the proxy ends")
        desk.terminal.close()

    assert at(body).lines == []
