"""Questions at the same time: who shares a call, who leaves one, how many there may be, and their end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from codex_network_proxy.policy.deciding import AskedOnce, Deciding
from codex_network_proxy.policy.decision import (
    ClientScope,
    HttpUse,
    NetworkDecision,
    NetworkPolicyRequest,
    NetworkProtocol,
)
from codex_network_proxy.policy.hosts import parse_endpoint

from .deciders import ALLOW, AT_ONCE, CONNECT, DENY, FULL, FakeDecider, asking, turns

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
