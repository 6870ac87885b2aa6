"""Asks the embedding code about hosts that no list names: in bounded time and number (spec A10, B9.2)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from .decision import Decision, HttpUse, NetworkDecision, NetworkPolicyRequest, Tunnel, Use
from .interfaces import NetworkPolicyDecider

DECIDER_TIMEOUT = 60.0
"""Seconds a decider may take before its silence is a deny (spec A10)."""

PENDING_LIMIT = 256
"""Questions that a decider is asked at the same time. A flood of unknown hosts beyond them is denied unasked."""

QUEUE_FULL = "ask_queue_full"
"""Why somebody was denied without anybody being asked."""

_DENY = NetworkDecision.deny()


def check_timeout(timeout: float) -> None:
    """Raises `ValueError` unless `timeout` is a finite number of seconds above zero."""
    if not 0 < timeout < math.inf:
        raise ValueError(f"a decider's time-out of {timeout} s: write a number of seconds greater than 0")


class Asker(Protocol):
    async def ask(self, request: NetworkPolicyRequest) -> NetworkDecision:
        """The answer to an allowlist miss. Whatever goes wrong is a deny; only cancellation is raised."""
        ...


@dataclass(slots=True)
class _Call:
    """One question under way and how many wait for its answer."""

    answer: asyncio.Future[NetworkDecision]
    task: asyncio.Task[NetworkDecision]
    timer: asyncio.TimerHandle
    waiting: int = 0


class Deciding:
    """A decider that always answers: it raises, is late, talks nonsense or is flooded, and the answer is a deny.

    Who asks the same while a question is under way gets its answer, too. The same is all that the decider is told,
    but the client's address: an approval given to one command answers no other. When nobody waits any more the call
    is cancelled.
    """

    def __init__(
        self,
        decider: NetworkPolicyDecider,
        *,
        timeout: float = DECIDER_TIMEOUT,
        limit: int = PENDING_LIMIT,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`timeout` is in seconds; `note` takes a sentence for the log, which never holds the text of an error.

        Raises `ValueError` for a time-out that is not a finite number above zero.
        """
        check_timeout(timeout)
        self._decider = decider
        self._timeout = timeout
        self._limit = limit
        self._note = note
        self._calls: dict[NetworkPolicyRequest, _Call] = {}
        # A decider that does not let itself be cancelled still counts, though nobody waits for it.
        self._running: set[asyncio.Task[NetworkDecision]] = set()
        self._is_full = False

    @property
    def pending(self) -> int:
        """Calls of the decider that have not ended."""
        return len(self._running)

    async def ask(self, request: NetworkPolicyRequest) -> NetworkDecision:
        question = replace(request, use=_outline(request.use))
        key = replace(question, client_address=None)
        call = self._calls.get(key)
        if call is None:
            if len(self._running) >= self._limit:
                return self._refuse()
            call = self._begin(key, question)
        call.waiting += 1
        try:
            return await asyncio.shield(call.answer)
        finally:
            call.waiting -= 1
            if not call.waiting:
                self._settle(key, call, _DENY)
                call.task.cancel()

    def close(self) -> None:
        """Ends every call; who still waits is denied."""
        for key, call in list(self._calls.items()):
            self._settle(key, call, _DENY)
        for task in list(self._running):
            task.cancel()

    def _refuse(self) -> NetworkDecision:
        if not self._is_full:
            self._is_full = True
            self._note(f"{self._limit} questions wait for the decider; others are denied unasked")
        return NetworkDecision.deny(QUEUE_FULL)

    def _begin(self, key: NetworkPolicyRequest, question: NetworkPolicyRequest) -> _Call:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._consult(question))
        timer = loop.call_later(self._timeout, self._late, key)
        call = self._calls[key] = _Call(loop.create_future(), task, timer)
        self._running.add(task)
        task.add_done_callback(lambda _: self._ended(key, call))
        return call

    async def _consult(self, question: NetworkPolicyRequest) -> NetworkDecision:
        try:
            answer: object = await self._decider(question)
        except Exception as error:
            # Whatever went wrong in the embedding app must not open the network. Its text may hold anything.
            self._note(f"the decider failed ({type(error).__name__}); the request is denied")
            return _DENY
        if isinstance(answer, NetworkDecision) and _is_sound(answer):
            return answer
        self._note(f"the decider answered with {type(answer).__name__}; answer with NetworkDecision.allow() or .deny()")
        return _DENY

    def _late(self, key: NetworkPolicyRequest) -> None:
        call = self._calls[key]
        self._note(f"the decider did not answer within {self._timeout:g} s; the request is denied")
        self._settle(key, call, _DENY)
        call.task.cancel()

    def _ended(self, key: NetworkPolicyRequest, call: _Call) -> None:
        self._running.discard(call.task)
        self._is_full = False
        failed = call.task.cancelled() or call.task.exception() is not None
        if failed and not call.answer.done():
            # Not cancelled by us: its own loop has ended, or it did this to itself.
            self._note("the decider was cancelled; the request is denied")
        self._settle(key, call, _DENY if failed else call.task.result())

    def _settle(self, key: NetworkPolicyRequest, call: _Call, answer: NetworkDecision) -> None:
        """The first answer counts; nobody may join the call afterwards."""
        if call.answer.done():
            return
        del self._calls[key]
        call.timer.cancel()
        call.answer.set_result(answer)


class AskedOnce:
    """The answer to one request, kept while the policy changes under it: nobody is asked the same twice.

    `said` is an answer that was given before. `waiting`: the question is under way, or was cancelled.
    """

    __slots__ = ("_asker", "_has_left", "_question", "_said", "waiting")

    def __init__(self, asker: Asker, said: NetworkDecision | None = None) -> None:
        self._asker = asker
        self._said = said
        self._question: asyncio.Future[NetworkDecision] | None = None
        self._has_left = False
        self.waiting = False

    async def ask(self, request: NetworkPolicyRequest) -> NetworkDecision:
        if self._said is None:
            self._said = _DENY if self._has_left else await self._ask(request)
        return self._said

    async def _ask(self, request: NetworkPolicyRequest) -> NetworkDecision:
        self.waiting = True
        self._question = asyncio.ensure_future(self._asker.ask(request))
        try:
            answer = await self._question
        except asyncio.CancelledError:
            if not self._has_left:
                raise
            answer = _DENY
        self.waiting = False
        return answer

    def leave(self) -> None:
        """The client is gone: the answer is a deny, and the others who ask the same wait on."""
        self._has_left = True
        if self._question is not None:
            self._question.cancel()


def _outline(use: Use) -> Use:
    """What a decider is told of a request: never path and headers, which may hold secrets."""
    match use:
        case Tunnel():
            return use
        case HttpUse():
            return replace(use, path="/", headers=())
        case _:
            assert_never(use)


def _is_sound(answer: NetworkDecision) -> bool:
    """Whether an answer that was not built by `allow`, `deny` or `ask` means something all the same."""
    decision: object = answer.decision
    reason: object = answer.reason
    return isinstance(decision, Decision) and isinstance(reason, str) and reason != ""
