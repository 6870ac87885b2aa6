"""While a decider thinks: clients leave, policies change, the proxy ends; and what its answer holds for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from codex_network_proxy.addons.authority import Authority, Surroundings
from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    HttpUse,
    IPAddress,
    NetworkDecision,
    NetworkPolicyRequest,
    Verdict,
)
from codex_network_proxy.policy.patterns import parse_pattern

from .authority_kit import FakeWorld, compile_policy, decide, make, question


class PromptDecider:
    """Asks a person, who answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[NetworkPolicyRequest] = []
        self.answer: asyncio.Future[NetworkDecision] = asyncio.get_running_loop().create_future()
        self._questions: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        self.asked.append(request)
        self._questions.put_nowait(None)
        return await self.answer

    async def until_asked(self, count: int) -> None:
        for _ in range(count):
            await self._questions.get()


async def prompted(world: FakeWorld, *hosts: str) -> tuple[PromptDecider, Authority, list[asyncio.Task[Verdict]]]:
    """An authority whose decider has been asked about each of the hosts."""
    decider = PromptDecider()
    authority = Authority(compile_policy(()), Surroundings(world, world, world, decider=decider))
    tasks = [asyncio.ensure_future(authority.decide(question(host))) for host in hosts]
    await decider.until_asked(len(set(hosts)))
    return decider, authority, tasks


def test_a_policy_that_changes_during_a_question_asks_nobody_twice() -> None:
    async def run() -> None:
        decider, authority, tasks = await prompted(FakeWorld(), "new.test", "other.test")
        authority.replace(compile_policy((), denied=(parse_pattern("other.test"),)))
        decider.answer.set_result(NetworkDecision.allow())
        new, other = [await task for task in tasks]
        assert isinstance(new, Allowed)
        assert isinstance(other, Blocked)
        assert other.reason == "denied"
        assert [request.host for request in decider.asked] == ["new.test", "other.test"]

    asyncio.run(run())


def test_a_client_that_leaves_its_question_is_denied_and_the_others_wait_on() -> None:
    async def run() -> None:
        world = FakeWorld()
        decider, _, (leaver, stayer) = await prompted(world, "new.test", "new.test")
        leaver.cancel()
        await asyncio.wait([leaver])
        assert leaver.cancelled()
        assert world.told() == [("domain", "deny", "policy_denied")]
        assert world.events[0].fields()["network.policy.source"] == "decider"
        decider.answer.set_result(NetworkDecision.allow())
        assert isinstance(await stayer, Allowed)

    asyncio.run(run())


def test_a_client_that_is_gone_is_denied_and_the_others_wait_on() -> None:
    async def run() -> None:
        world = FakeWorld()
        decider = PromptDecider()
        authority = Authority(compile_policy(()), Surroundings(world, world, world, decider=decider))
        clients = ("127.0.0.1:1", "127.0.0.1:2")
        requests = [replace(question("new.test"), client_address=client) for client in clients]
        gone, stayer = (asyncio.ensure_future(authority.decide(request)) for request in requests)
        await decider.until_asked(1)
        authority.client_left("127.0.0.1:1")
        authority.client_left("127.0.0.1:9")
        verdict = await gone
        assert isinstance(verdict, Blocked)
        assert (verdict.reason, verdict.ruling.source) == ("policy_denied", "decider")
        decider.answer.set_result(NetworkDecision.allow())
        assert isinstance(await stayer, Allowed)
        assert world.told() == [("domain", "deny", "policy_denied"), ("domain", "allow", "not_allowed")]

    asyncio.run(run())


def test_a_client_without_a_question_may_go() -> None:
    world = FakeWorld()
    Authority(compile_policy(), Surroundings(world, world, world)).client_left("127.0.0.1:1")


def test_a_client_that_leaves_a_lookup_was_not_denied_by_anybody() -> None:
    class NoAnswer(FakeWorld):
        async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
            raise asyncio.CancelledError

    world = NoAnswer()
    with pytest.raises(asyncio.CancelledError):
        decide(make(world), question())
    assert world.events == []


def test_closing_denies_what_a_decider_still_thinks_about() -> None:
    async def run() -> None:
        _, authority, (task,) = await prompted(FakeWorld(), "new.test")
        authority.close()
        verdict = await task
        assert isinstance(verdict, Blocked)
        assert verdict.reason == "policy_denied"

    asyncio.run(run())


def test_closing_without_a_decider_is_nothing() -> None:
    world = FakeWorld()
    Authority(compile_policy(), Surroundings(world, world, world)).close()


@pytest.mark.parametrize(
    ("tunnel", "inner", "allowed"),
    [
        pytest.param("decided.test", "decided.test", True, id="holds for what is inside"),
        pytest.param("decided.test", "other.test", False, id="holds for no other host"),
        pytest.param("allowed.test", "other.test", False, id="is not what a list says"),
    ],
)
def test_what_a_decider_said_of_an_intercepted_tunnel(tunnel: str, inner: str, allowed: bool) -> None:
    authority = make(FakeWorld())
    outer = decide(authority, question(tunnel))
    assert isinstance(outer, Allowed)
    asked = replace(question(inner), use=HttpUse("GET", secure=True), method="GET")
    verdict = asyncio.run(authority.decide(asked, outer))
    assert isinstance(verdict, Allowed) is allowed


def test_a_request_inside_a_decided_tunnel_asks_nobody() -> None:
    async def run() -> None:
        decider, authority, (task,) = await prompted(FakeWorld(), "new.test")
        decider.answer.set_result(NetworkDecision.allow())
        outer = await task
        assert isinstance(outer, Allowed)
        inner = replace(question("new.test"), use=HttpUse("GET", secure=True), method="GET")
        assert isinstance(await authority.decide(inner, outer), Allowed)
        assert len(decider.asked) == 1
        authority.replace(compile_policy((), denied=(parse_pattern("new.test"),)))
        assert isinstance(await authority.decide(inner, outer), Blocked), "the lists have the last word"

    asyncio.run(run())
