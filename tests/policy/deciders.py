"""A decider that answers when the test says so, and questions to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from codex_network_proxy.policy.deciding import Deciding
from codex_network_proxy.policy.decision import NetworkDecision, NetworkPolicyRequest, NetworkProtocol, Tunnel
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
