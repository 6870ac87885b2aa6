"""Fifty thousand decisions by a decider that does whatever deciders do: nothing unlisted passes, nothing is left."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter

import pytest

from codex_network_proxy.addons.authority import Authority, Surroundings
from codex_network_proxy.policy.deciding import PENDING_LIMIT
from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    NetworkDecision,
    NetworkPolicyRequest,
    NetworkProtocol,
    Verdict,
)
from codex_network_proxy.policy.hosts import Endpoint, parse_host

from .engine_kit import PATIENCE, configuration
from .flow_kit import World, compiled

DECISIONS = 50_000
AT_ONCE = 250
HOSTS = 400
MOODS = ("allow", "deny", "ask", "raise", "rubbish", "hang", "cancel")


class Moody:
    """Its mood depends on the host alone."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._answer(request.host.partition("-")[0])
        finally:
            self.running -= 1

    async def _answer(self, mood: str) -> NetworkDecision:
        await asyncio.sleep(0)
        match mood:
            case "allow":
                return NetworkDecision.allow()
            case "ask":
                return NetworkDecision.ask("why")
            case "raise":
                raise RuntimeError("secret text")
            case "rubbish":
                return "allow"  # type: ignore[return-value]  # on purpose
            case "hang":
                await asyncio.Event().wait()
            case "cancel":
                raise asyncio.CancelledError
        return NetworkDecision.deny()


def test_a_decider_in_every_mood(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "codex_network_proxy")

    async def soak() -> None:
        chance, moody, world = random.Random(7), Moody(), World()
        policy = compiled(configuration(lines=["allowed_domains = []"]))
        authority = Authority(policy, Surroundings(world, world, world, decider=moody))
        seen: Counter[tuple[str, type[Verdict]]] = Counter()
        for start in range(0, DECISIONS, AT_ONCE):
            requests = [a_request(chance, start + number) for number in range(AT_ONCE)]
            verdicts = await decide_all(authority, requests)
            seen.update((one.request.host.partition("-")[0], type(one)) for one in verdicts)
            world.events.clear()
        assert {mood for mood, _ in seen} == set(MOODS)
        assert all((mood == "allow") is (kind is Allowed) for mood, kind in seen), "nobody else passes"
        assert {kind for _, kind in seen} == {Allowed, Blocked}
        assert authority.blocked.total == sum(count for (_, kind), count in seen.items() if kind is Blocked)
        async with asyncio.timeout(PATIENCE):  # the last calls that were cancelled come to their end
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
        assert moody.running == 0
        assert moody.most <= PENDING_LIMIT

    asyncio.run(soak())


def a_request(chance: random.Random, number: int) -> NetworkPolicyRequest:
    host = f"{chance.choice(MOODS)}-{chance.randrange(HOSTS)}.test"
    return NetworkPolicyRequest(
        NetworkProtocol.HTTPS_CONNECT,
        Endpoint(parse_host(host), 443),
        method="CONNECT",
        client_address=f"127.0.0.1:{number}",
    )


async def decide_all(authority: Authority, requests: list[NetworkPolicyRequest]) -> list[Verdict]:
    """All at once; who waits for a decider that hangs goes away in the end."""
    tasks = [asyncio.ensure_future(authority.decide(request)) for request in requests]
    hanging = [request for request in requests if request.host.startswith("hang")]
    await asyncio.gather(*(task for task, request in zip(tasks, requests, strict=True) if request not in hanging))
    for request in hanging:
        authority.client_left(str(request.client_address))
    return await asyncio.gather(*tasks)
