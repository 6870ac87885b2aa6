"""A person is asked, in bounded number and time; whatever does not end in an answer is a deny."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from codex_network_proxy.addons.asking import Answer, Asking, Question
from codex_network_proxy.policy.decision import Decision, NetworkDecision, NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.hosts import parse_endpoint

HTTP, CONNECT, SOCKS = NetworkProtocol.HTTP, NetworkProtocol.HTTPS_CONNECT, NetworkProtocol.SOCKS5_TCP
ALLOW = NetworkDecision.allow()
NO = NetworkDecision.deny("denied_by_person")


class FakeChannel:
    """A person who sees everything and answers when the test says so."""

    def __init__(self) -> None:
        self.open = True
        self.asked: dict[int, Callable[[Answer], None]] = {}
        self.seen: list[str] = []
        self.gone: list[str] = []
        self.error: Exception | None = None

    def show(self, question: Question, answer: Callable[[Answer], None]) -> None:
        if self.error:
            raise self.error
        self.asked[question.number] = answer
        self.seen.append(f"{question.number} {question.door} {question.target} {question.client}")

    def withdraw(self, question: Question, outcome: str) -> None:
        if self.error:
            raise self.error
        self.gone.append(f"{question.number} {outcome}")

    def close(self) -> None:
        self.open = False


def about(
    host: str = "other.test:443", protocol: NetworkProtocol = CONNECT, client: str = "127.0.0.1:5"
) -> NetworkPolicyRequest:
    return NetworkPolicyRequest(protocol, parse_endpoint(host, 443), method="CONNECT", client_address=client)


async def ask(asking: Asking, *requests: NetworkPolicyRequest) -> list[asyncio.Task[NetworkDecision]]:
    """Asks all of them, and returns when each has got as far as it can."""
    tasks = [asyncio.ensure_future(asking(request)) for request in requests]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


def run(body: Callable[[Asking, FakeChannel], Awaitable[None]], limit: float = 3600.0) -> None:
    async def within() -> None:
        channel = FakeChannel()
        asking = Asking(channel, limit=limit)
        try:
            await body(asking, channel)
        finally:
            asking.close()

    asyncio.run(within())


@pytest.mark.parametrize(
    ("answer", "decision", "again"),
    [
        pytest.param(Answer.ONCE, ALLOW, None, id="once"),
        pytest.param(Answer.RUN, ALLOW, ALLOW, id="for this run"),
        pytest.param(Answer.DENY, NO, None, id="no"),
        pytest.param(Answer.NEVER, NO, NO, id="not in this run"),
    ],
)
def test_an_answer(answer: Answer, decision: NetworkDecision, again: NetworkDecision | None) -> None:
    async def body(asking: Asking, channel: FakeChannel) -> None:
        (task,) = await ask(asking, about())
        assert channel.seen == ["1 CONNECT other.test:443 127.0.0.1:5"]
        channel.asked[1](answer)
        assert await task == decision
        assert channel.gone == [f"1 {answer.value}"]
        for later in (about(), about(protocol=SOCKS), about(protocol=HTTP)):
            (task,) = await ask(asking, later)
            if again is None:
                assert not task.done()
                task.cancel()
            else:
                assert await task == again
        (elsewhere,) = await ask(asking, about("other.test:444"))
        assert not elsewhere.done(), "another port is another question"

    run(body)


def test_everybody_who_asks_the_same_gets_the_same_answer() -> None:
    async def body(asking: Asking, channel: FakeChannel) -> None:
        tasks = await ask(asking, *(about(client=f"127.0.0.1:{number}") for number in range(10)))
        assert len(channel.seen) == asking.waiting == 1
        channel.asked[1](Answer.ONCE)
        assert {await task for task in tasks} == {ALLOW}

    run(body)


def test_an_answer_for_the_run_settles_the_same_host_at_other_doors() -> None:
    async def body(asking: Asking, channel: FakeChannel) -> None:
        requests = [about(), about(protocol=SOCKS), about("third.test:443")]
        first, second, third = await ask(asking, *requests)
        channel.asked[1](Answer.RUN)
        assert (await first, await second) == (ALLOW, ALLOW)
        assert not third.done()
        assert channel.gone == ["1 allowed for this run", "2 allowed for this run"]

    run(body)


def test_silence_is_a_deny_and_the_question_goes_away() -> None:
    async def body(asking: Asking, channel: FakeChannel) -> None:
        assert await asking(about()) == NetworkDecision.deny("ask_timed_out")
        assert channel.gone == ["1 no answer within 0 s, denied"]
        channel.asked[1](Answer.RUN)
        assert await asking(about()) == NetworkDecision.deny("ask_timed_out"), "an answer that comes too late is none"

    run(body, limit=0.0)


def test_when_the_last_client_leaves_the_question_goes_away() -> None:
    async def body(asking: Asking, channel: FakeChannel) -> None:
        first, second = await ask(asking, about(client="127.0.0.1:1"), about(client="127.0.0.1:2"))
        first.cancel()
        await asyncio.wait((first,))
        assert channel.gone == []
        second.cancel()
        await asyncio.wait((second,))
        assert (channel.gone, asking.waiting) == (["1 the client is gone"], 0)

    run(body)


def test_a_flood_is_bounded_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def body(asking: Asking, channel: FakeChannel) -> None:
        tasks = await ask(asking, *(about(f"h{number}.test:443") for number in range(1_000)))
        assert len(channel.seen) == asking.waiting == 32
        assert {await task for task in tasks[32:]} == {NetworkDecision.deny("ask_queue_full")}
        channel.asked[7](Answer.DENY)
        assert await tasks[6] == NO
        await ask(asking, about("one.more.test:443"))
        assert len(channel.seen) == 33

    with caplog.at_level(logging.DEBUG, "codex_network_proxy"):
        run(body)
    assert caplog.messages == ["32 questions wait for an answer; other hosts are denied unasked"]


def test_where_nobody_can_answer_nobody_is_asked() -> None:
    async def body(asking: Asking, channel: FakeChannel) -> None:
        channel.open = False
        assert await asking(about()) == NetworkDecision.deny("nobody_to_ask")
        assert channel.seen == []

    run(body)


def test_the_end_denies_what_still_waits() -> None:
    async def body(asking: Asking, channel: FakeChannel) -> None:
        (task,) = await ask(asking, about())
        asking.close()
        asking.close()
        assert await task == NetworkDecision.deny("nobody_to_ask")
        assert (channel.open, channel.gone) == (False, [])
        assert await asking(about()) == NetworkDecision.deny("nobody_to_ask")

    run(body)


def test_the_first_of_two_answers_counts_and_both_places_hear_of_it() -> None:
    async def body(asking: Asking, channel: FakeChannel) -> None:
        other = FakeChannel()
        asking.add(other)
        (task,) = await ask(asking, about())
        other.asked[1](Answer.DENY)
        channel.asked[1](Answer.RUN)
        assert await task == NO
        assert channel.gone == other.gone == ["1 denied"]
        (later,) = await ask(asking, about())
        assert not later.done()

    run(body)


def test_a_place_that_fails_does_not_keep_the_other_from_asking(caplog: pytest.LogCaptureFixture) -> None:
    async def body(asking: Asking, channel: FakeChannel) -> None:
        channel.error = RuntimeError("a secret")
        other = FakeChannel()
        asking.add(other)
        (task,) = await ask(asking, about())
        other.asked[1](Answer.ONCE)
        assert await task == ALLOW

    run(body)
    assert caplog.messages == [
        "a question could not be shown (RuntimeError)",
        "a question could not be withdrawn (RuntimeError)",
    ]


def test_what_is_shown_holds_nothing_that_a_terminal_obeys() -> None:
    request = replace(about("B\u00fccher.test"), client_address="\x1b[2J")
    question = Question(1, request)
    assert (question.target, question.client) == ("xn--bcher-kva.test:443", r"\x1b[2J")


def test_no_answer_is_an_ask() -> None:
    assert {answer.name for answer in Answer} == {"ONCE", "RUN", "DENY", "NEVER"}
    assert NO.decision is Decision.DENY
