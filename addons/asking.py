"""Asks a person about hosts that no list names, in the terminal, in mitmweb, or in both (`serve --ask`)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from codex_network_proxy.policy.deciding import QUEUE_FULL
from codex_network_proxy.policy.decision import NetworkDecision, NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.text import printable

from .seldom import Seldom

logger = logging.getLogger("codex_network_proxy")

ANSWER_LIMIT = 60.0
"""Seconds a person has for an answer. Silence is a deny."""

WAITING_LIMIT = 32
"""Questions that wait at the same time: more than these nobody would read. Others are denied unasked."""

REFUSED = "denied_by_person"
TIMED_OUT = "ask_timed_out"
NOBODY = "nobody_to_ask"

DOORS = {
    NetworkProtocol.HTTP: "HTTP",
    NetworkProtocol.HTTPS_CONNECT: "CONNECT",
    NetworkProtocol.SOCKS5_TCP: "SOCKS5",
    NetworkProtocol.SOCKS5_UDP: "SOCKS5-UDP",
}


class Answer(Enum):
    """What a person may say. `value` is how it is told afterwards."""

    ONCE = "allowed once"
    RUN = "allowed for this run"
    DENY = "denied"
    NEVER = "denied for this run"


@dataclass(frozen=True, slots=True)
class Question:
    """May this client talk to that host? The texts are canonical and hold nothing that a terminal would obey."""

    number: int
    request: NetworkPolicyRequest

    @property
    def door(self) -> str:
        return DOORS[self.request.protocol]

    @property
    def target(self) -> str:
        return printable(str(self.request.target))

    @property
    def client(self) -> str:
        return printable(self.request.client_address or "unknown")


class Channel(Protocol):
    """A way to reach a person. Used in the loop's thread only."""

    @property
    def open(self) -> bool:
        """Whether somebody could answer."""
        ...

    def show(self, question: Question, answer: Callable[[Answer], None]) -> None:
        """Puts the question. `answer` may be called once it was answered elsewhere; then it does nothing."""
        ...

    def withdraw(self, question: Question, outcome: str) -> None:
        """The question is settled; `outcome` says how."""
        ...

    def close(self) -> None:
        """Neither shows nor answers anything more."""
        ...


class _Waiting:
    """One question, and how many clients wait for its answer."""

    __slots__ = ("clients", "decision", "question", "timer")

    def __init__(self, question: Question, timer: asyncio.TimerHandle) -> None:
        self.question = question
        self.timer = timer
        self.decision: asyncio.Future[NetworkDecision] = asyncio.get_running_loop().create_future()
        self.clients = 0


Place = tuple[str, int]


class Asking:
    """A decider that asks a person. Whatever is not answered in time is denied; so is what nobody could answer.

    An answer for the run holds for the host and port, at every door, until the proxy ends.
    """

    def __init__(self, *channels: Channel, limit: float = ANSWER_LIMIT, most: int = WAITING_LIMIT) -> None:
        self._channels = list(channels)
        self._limit = limit
        self._most = most
        self._for_the_run: dict[Place, Answer] = {}
        self._waiting: dict[tuple[Place, NetworkProtocol], _Waiting] = {}
        self._numbers = itertools.count(1)
        self._tell_full = Seldom()

    def add(self, channel: Channel) -> None:
        """Questions are put here, too, from now on."""
        self._channels.append(channel)

    def close(self) -> None:
        """Nobody is asked any more, and what still waits is denied. Harmless when called again."""
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        for waiting in list(self._waiting.values()):
            self._settle(waiting, NetworkDecision.deny(NOBODY), "the proxy ends")

    @property
    def waiting(self) -> int:
        """Questions that nobody has answered yet."""
        return len(self._waiting)

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        place = (request.host, request.port)
        if known := self._for_the_run.get(place):
            return _decision(known)
        waiting = self._waiting.get((place, request.protocol))
        if waiting is None:
            if why_not := self._why_not():
                return NetworkDecision.deny(why_not)
            waiting = self._begin(place, request)
        waiting.clients += 1
        try:
            return await asyncio.shield(waiting.decision)
        finally:
            waiting.clients -= 1
            if not waiting.clients:
                self._settle(waiting, NetworkDecision.deny(), "the client is gone")

    def _why_not(self) -> str | None:
        if not any(channel.open for channel in self._channels):
            return NOBODY
        if len(self._waiting) < self._most:
            return None
        if self._tell_full():
            logger.warning("%d questions wait for an answer; other hosts are denied unasked", self._most)
        return QUEUE_FULL

    def _begin(self, place: Place, request: NetworkPolicyRequest) -> _Waiting:
        question = Question(next(self._numbers), request)
        timer = asyncio.get_running_loop().call_later(self._limit, self._late, (place, request.protocol))
        waiting = self._waiting[place, request.protocol] = _Waiting(question, timer)
        for channel in self._channels:
            if channel.open:
                with _contained("a question could not be shown"):
                    channel.show(question, lambda answer: self._answered(waiting, answer))
        return waiting

    def _answered(self, waiting: _Waiting, answer: Answer) -> None:
        if waiting.decision.done():
            return
        place = (waiting.question.request.host, waiting.question.request.port)
        if answer in (Answer.RUN, Answer.NEVER):
            self._for_the_run[place] = answer
        decision = _decision(answer)
        for (where, _), other in list(self._waiting.items()):
            if other is waiting or (where == place and place in self._for_the_run):
                self._settle(other, decision, answer.value)

    def _late(self, key: tuple[Place, NetworkProtocol]) -> None:
        outcome = f"no answer within {self._limit:g} s, denied"
        self._settle(self._waiting[key], NetworkDecision.deny(TIMED_OUT), outcome)

    def _settle(self, waiting: _Waiting, decision: NetworkDecision, outcome: str) -> None:
        """The first answer counts."""
        if waiting.decision.done():
            return
        request = waiting.question.request
        del self._waiting[(request.host, request.port), request.protocol]
        waiting.timer.cancel()
        waiting.decision.set_result(decision)
        for channel in self._channels:
            with _contained("a question could not be withdrawn"):
                channel.withdraw(waiting.question, outcome)


def _decision(answer: Answer) -> NetworkDecision:
    allowed = answer in (Answer.ONCE, Answer.RUN)
    return NetworkDecision.allow() if allowed else NetworkDecision.deny(REFUSED)


@contextlib.contextmanager
def _contained(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        logger.error("%s (%s)", what, type(error).__name__)
