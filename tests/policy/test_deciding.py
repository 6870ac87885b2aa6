"""A decider is asked once for all who wait, never too long and never too often; whatever it does wrong is a deny."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from codex_network_proxy.policy.deciding import AskedOnce, Deciding
from codex_network_proxy.policy.decision import (
    ClientScope,
    Decision,
    DecisionSource,
    HttpUse,
    NetworkDecision,
    NetworkPolicyRequest,
    NetworkProtocol,
    Tunnel,
)
from codex_network_proxy.policy.hosts import parse_endpoint

ALLOW, DENY = NetworkDecision.allow(), NetworkDecision.deny()
FULL = NetworkDecision.deny("ask_queue_full")
CONNECT = NetworkPolicyRequest(
    NetworkProtocol.HTTPS_CONNECT, parse_endpoint("new.test:443"), Tunnel(), "CONNECT", "127.0.0.1:1"
)
AT_ONCE = 1e-9
"""A time-out that is over before the loop has turned once."""


@dataclass
class FakeDecider:
    """Answers when the test says so. A call that is cancelled says that it was."""

    calls: list[tuple[NetworkPolicyRequest, asyncio.Future[NetworkDecision]]] = field(default_factory=list)
    cancelled: int = 0

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        future: asyncio.Future[NetworkDecision] = asyncio.get_running_loop().create_future()
        self.calls.append((request, future))
        try:
            return await future
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def answer(self, decision: NetworkDecision) -> None:
        for _, future in self.calls:
            future.set_result(decision)


async def asking(deciding: Deciding, *requests: NetworkPolicyRequest) -> list[asyncio.Task[NetworkDecision]]:
    """The questions, all of them under way."""
    tasks = [asyncio.ensure_future(deciding.ask(request)) for request in requests]
    await turns()
    return tasks


async def turns() -> None:
    """Lets everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


Answer = Callable[[NetworkPolicyRequest], Awaitable[object]]


def answering(value: object) -> Answer:
    async def decide(request: NetworkPolicyRequest) -> object:
        if isinstance(value, BaseException):
            raise value
        return value

    return decide


async def hang(request: NetworkPolicyRequest) -> object:
    return await asyncio.Event().wait()


async def refuse_to_end(request: NetworkPolicyRequest) -> object:
    """Says yes when it is told to stop."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return ALLOW


def not_async(request: NetworkPolicyRequest) -> object:
    return ALLOW


@pytest.mark.parametrize(
    ("decider", "answer", "noted"),
    [
        pytest.param(answering(ALLOW), ALLOW, [], id="an allow is taken"),
        pytest.param(
            answering(NetworkDecision.deny("no")), NetworkDecision.deny("no"), [], id="a deny keeps its words"
        ),
        pytest.param(answering(NetworkDecision.ask("why")), NetworkDecision.ask("why"), [], id="an ask stays one"),
        pytest.param(
            answering(RuntimeError("secret text")),
            DENY,
            ["the decider failed (RuntimeError); the request is denied"],
            id="an error is a deny, and its text is not noted",
        ),
        pytest.param(answering(asyncio.CancelledError()), DENY, [], id="a decider that cancels itself denies"),
        pytest.param(
            answering(TimeoutError()),
            DENY,
            ["the decider failed (TimeoutError); the request is denied"],
            id="a time-out of its own is an error like any other",
        ),
        pytest.param(
            hang, DENY, ["the decider did not answer within 1e-09 s; the request is denied"], id="a late one denies"
        ),
        pytest.param(
            refuse_to_end,
            DENY,
            ["the decider did not answer within 1e-09 s; the request is denied"],
            id="a late one that then says yes denies",
        ),
        pytest.param(
            not_async, DENY, ["the decider failed (TypeError); the request is denied"], id="a plain function denies"
        ),
        *(
            pytest.param(
                answering(value), DENY, [f"the decider answered with {kind}; {repair}"], id=f"{value!r} denies"
            )
            for repair in ["answer with NetworkDecision.allow() or .deny()"]
            for value, kind in [
                (True, "bool"),
                (None, "NoneType"),
                ("allow", "str"),
                (Decision.ALLOW, "Decision"),
                (NetworkDecision("allow"), "NetworkDecision"),  # type: ignore[arg-type]  # on purpose
                (NetworkDecision(Decision.ASK, 7), "NetworkDecision"),  # type: ignore[arg-type]  # on purpose
                (NetworkDecision(Decision.DENY, ""), "NetworkDecision"),
            ]
        ),
    ],
)
def test_the_answer_of_a_decider(decider: Answer, answer: NetworkDecision, noted: list[str]) -> None:
    notes: list[str] = []
    late = decider in (hang, refuse_to_end)
    deciding = Deciding(decider, timeout=AT_ONCE if late else 60.0, note=notes.append)  # type: ignore[arg-type]  # rows hand over wrong deciders on purpose
    assert asyncio.run(deciding.ask(CONNECT)) == answer
    assert notes == noted


def test_without_a_note_a_failure_is_a_silent_deny() -> None:
    deciding = Deciding(answering(RuntimeError()))  # type: ignore[arg-type]  # on purpose
    assert asyncio.run(deciding.ask(CONNECT)) == DENY


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan])
def test_a_time_out_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="write a number of seconds greater than 0"):
        Deciding(FakeDecider(), timeout=timeout)


PLAIN = replace(CONNECT, protocol=NetworkProtocol.HTTP, use=HttpUse("GET"), method="GET")


@pytest.mark.parametrize(
    ("first", "second", "calls"),
    [
        pytest.param(CONNECT, CONNECT, 1, id="the same target is asked for once"),
        pytest.param(CONNECT, replace(CONNECT, client_address="127.0.0.1:2"), 1, id="another client gets the answer"),
        pytest.param(
            PLAIN, replace(PLAIN, use=HttpUse("GET", path="/other", headers=(("a", "b"),))), 1, id="paths do not count"
        ),
        pytest.param(CONNECT, replace(CONNECT, target=parse_endpoint("new.test:22")), 2, id="another port is another"),
        pytest.param(CONNECT, replace(CONNECT, target=parse_endpoint("b.test:443")), 2, id="another host is another"),
        pytest.param(
            CONNECT, replace(CONNECT, protocol=NetworkProtocol.SOCKS5_TCP), 2, id="another protocol is another"
        ),
        pytest.param(
            CONNECT,
            replace(CONNECT, scope=ClientScope(command="curl new.test")),
            2,
            id="an approval given to one command answers no other",
        ),
        pytest.param(
            PLAIN, replace(PLAIN, use=HttpUse("POST"), method="POST"), 2, id="a read's approval answers no write"
        ),
        pytest.param(
            PLAIN,
            replace(PLAIN, use=HttpUse("GET", upgrade="websocket")),
            2,
            id="a read's approval answers no WebSocket",
        ),
    ],
)
def test_questions_at_the_same_time(first: NetworkPolicyRequest, second: NetworkPolicyRequest, calls: int) -> None:
    async def ask() -> None:
        decider = FakeDecider()
        waiting = await asking(Deciding(decider), first, second)
        assert len(decider.calls) == calls
        decider.answer(ALLOW)
        assert [await task for task in waiting] == [ALLOW, ALLOW]

    asyncio.run(ask())


def test_a_question_that_was_answered_is_asked_again() -> None:
    async def ask() -> None:
        decider = FakeDecider()
        deciding = Deciding(decider)
        for count in (1, 2):
            (task,) = await asking(deciding, CONNECT)
            assert len(decider.calls) == count
            decider.calls[-1][1].set_result(ALLOW)
            await task
        assert deciding.pending == 0

    asyncio.run(ask())


def test_what_a_decider_is_told_holds_neither_path_nor_headers() -> None:
    async def ask() -> None:
        decider = FakeDecider()
        scope = ClientScope("curl", "hint", "env-1")
        secret = HttpUse("GET", path="/?token=canary", headers=(("cookie", "canary"),))
        await asking(Deciding(decider), replace(PLAIN, use=secret, scope=scope))
        told = decider.calls[0][0]
        assert told == replace(PLAIN, scope=scope)
        assert (told.command, told.exec_policy_hint, told.environment_id) == ("curl", "hint", "env-1")
        assert told.client_address == "127.0.0.1:1"

    asyncio.run(ask())


def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    async def ask() -> None:
        decider = FakeDecider()
        deciding = Deciding(decider)
        leaver, stayer = await asking(deciding, CONNECT, CONNECT)
        leaver.cancel()
        await turns()
        assert decider.cancelled == 0
        decider.answer(ALLOW)
        assert await stayer == ALLOW
        assert leaver.cancelled()

    asyncio.run(ask())


def test_the_call_is_cancelled_when_the_last_who_waits_is_gone() -> None:
    async def ask() -> None:
        decider = FakeDecider()
        deciding = Deciding(decider)
        for task in await asking(deciding, CONNECT, CONNECT):
            task.cancel()
        await turns()
        assert (decider.cancelled, deciding.pending) == (1, 0)

    asyncio.run(ask())


def test_nobody_joins_a_call_that_is_being_cancelled() -> None:
    async def ask() -> None:
        decider = FakeDecider()
        deciding = Deciding(decider)
        (gone,) = await asking(deciding, CONNECT)
        gone.cancel()
        await asyncio.sleep(0)  # the waiter has left, the call does not know yet
        (next_one,) = await asking(deciding, CONNECT)
        assert len(decider.calls) == 2
        decider.calls[1][1].set_result(ALLOW)
        assert await next_one == ALLOW

    asyncio.run(ask())


def test_a_flood_of_hosts_is_denied_unasked_and_noted_once() -> None:
    async def ask() -> None:
        decider = FakeDecider()
        notes: list[str] = []
        deciding = Deciding(decider, limit=2, note=notes.append)
        flood = [replace(CONNECT, target=parse_endpoint(f"h{number}.test:443")) for number in range(1000)]
        waiting = await asking(deciding, *flood)
        assert (len(decider.calls), deciding.pending) == (2, 2)
        assert [task.result() for task in waiting[2:]] == [FULL] * 998
        assert notes == ["2 questions wait for the decider; others are denied unasked"]
        assert not (await asking(deciding, flood[0]))[0].done(), "who asks what is under way may wait"
        decider.answer(ALLOW)
        assert [await task for task in waiting[:2]] == [ALLOW, ALLOW]
        await turns()
        (late,) = await asking(deciding, flood[5])
        decider.calls[-1][1].set_result(ALLOW)
        assert await late == ALLOW, "there is room again"

    asyncio.run(ask())


def test_a_decider_that_does_not_end_when_cancelled_still_counts() -> None:
    async def ask() -> None:
        end = asyncio.Event()

        async def stubborn(request: NetworkPolicyRequest) -> NetworkDecision:
            while not end.is_set():
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    continue
            return ALLOW

        deciding = Deciding(stubborn, timeout=AT_ONCE, limit=1)
        assert await deciding.ask(CONNECT) == DENY
        assert deciding.pending == 1
        assert await deciding.ask(CONNECT) == FULL
        end.set()
        await turns()
        assert deciding.pending == 0

    asyncio.run(ask())


def test_closing_denies_who_waits_and_ends_the_calls() -> None:
    async def ask() -> None:
        decider = FakeDecider()
        deciding = Deciding(decider)
        waiting = await asking(deciding, CONNECT, PLAIN)
        deciding.close()
        assert [await task for task in waiting] == [DENY, DENY]
        await turns()
        assert (decider.cancelled, deciding.pending) == (2, 0)

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("answer", "reason", "source"),
    [
        pytest.param(NetworkDecision.deny("x"), "x", "decider", id="a deny"),
        pytest.param(NetworkDecision.deny(), "policy_denied", "decider", id="a deny without a reason"),
        pytest.param(NetworkDecision.ask(""), "policy_denied", "decider", id="an ask with an empty reason"),
        pytest.param(
            NetworkDecision.deny_with_source("x", DecisionSource.MODE_GUARD), "x", "mode_guard", id="a deny of another"
        ),
        pytest.param(
            NetworkDecision.ask_with_source("", DecisionSource.PROXY_STATE),
            "policy_denied",
            "proxy_state",
            id="an ask of another, with an empty reason",
        ),
    ],
)
def test_an_answer_says_why_and_who(answer: NetworkDecision, reason: str, source: str) -> None:
    assert (answer.reason, answer.source) == (reason, source)


def test_an_answer_is_kept_for_its_request() -> None:
    async def ask() -> None:
        decider = FakeDecider()
        asked = AskedOnce(Deciding(decider))
        task = asyncio.ensure_future(asked.ask(CONNECT))
        await turns()
        assert asked.waiting
        decider.answer(ALLOW)
        assert [await task, await asked.ask(CONNECT)] == [ALLOW, ALLOW]
        assert len(decider.calls) == 1
        assert not asked.waiting

    asyncio.run(ask())


def test_a_question_that_was_left_counts_as_waiting() -> None:
    async def ask() -> None:
        asked = AskedOnce(Deciding(FakeDecider()))
        task = asyncio.ensure_future(asked.ask(CONNECT))
        await turns()
        task.cancel()
        await turns()
        assert asked.waiting

    asyncio.run(ask())


def test_who_leaves_is_denied_and_the_others_wait_on() -> None:
    async def ask() -> None:
        decider = FakeDecider()
        deciding = Deciding(decider)
        leaver, stayer = AskedOnce(deciding), AskedOnce(deciding)
        tasks = [asyncio.ensure_future(asked.ask(CONNECT)) for asked in (leaver, stayer)]
        await turns()
        leaver.leave()
        assert await tasks[0] == DENY
        assert not leaver.waiting
        decider.answer(ALLOW)
        assert await tasks[1] == ALLOW

    asyncio.run(ask())


def test_who_has_left_before_is_not_asked_about() -> None:
    decider = FakeDecider()
    asked = AskedOnce(Deciding(decider))
    asked.leave()
    assert asyncio.run(asked.ask(CONNECT)) == DENY
    assert decider.calls == []


def test_what_was_said_before_needs_no_question() -> None:
    decider = FakeDecider()
    assert asyncio.run(AskedOnce(Deciding(decider), NetworkDecision.deny("no")).ask(CONNECT)).reason == "no"
    assert decider.calls == []
