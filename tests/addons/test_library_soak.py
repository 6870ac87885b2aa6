"""Many starts, many decisions, and a decider that does everything wrong by turns: nothing leaks, nothing gets through.

What happens when is drawn at random from a fixed seed, so that a run that fails can be repeated.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from codex_network_proxy import NetworkDecision, NetworkPolicyRequest, NetworkProtocol, NetworkProxy
from codex_network_proxy.addons.authority import Authority, Surroundings
from codex_network_proxy.policy.blocked import BUFFER_SIZE
from codex_network_proxy.policy.decision import Allowed, Blocked, IPAddress, Verdict
from codex_network_proxy.policy.hosts import parse_endpoint
from tests.kit.leaks import holdings
from tests.kit.origins import HttpOrigin

from .flow_kit import World, compiled
from .library_kit import builder, connect, get, tunnel, until

DECISIONS, AT_ONCE = 50_000, 250
CYCLES = 200
SEED = 20261123

POLICY = """
default_permissions = "p"
[permissions.p.network]
enabled = true
allow_local_binding = true
allowed_domains = ["**.listed.test"]
denied_domains = ["**.denied.test"]
"""


class Moody:
    """A decider of many moods. `allowed` holds the hosts that it really allowed."""

    MOODS = ("allow", "deny", "ask", "raise", "hang", "cancel", "rubbish", "reluctant", "slow")

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.allowed: set[str] = set()
        self.asked: Counter[str] = Counter()

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        mood = self._random.choice(self.MOODS)
        self.asked[mood] += 1
        match mood:
            case "raise":
                raise RuntimeError("canary")
            case "hang":
                await asyncio.get_running_loop().create_future()
            case "cancel":
                raise asyncio.CancelledError
            case "rubbish":
                return self._random.choice(["allow", True, None, object()])  # type: ignore[return-value]  # its mood
            case "reluctant":
                with suppress(asyncio.CancelledError):
                    await asyncio.get_running_loop().create_future()
                return NetworkDecision.allow()  # too late: nobody waits any more
            case "slow":
                await asyncio.sleep(0)
        if mood in ("deny", "ask"):
            return NetworkDecision.deny("no") if mood == "deny" else NetworkDecision.ask("not_allowed")
        self.allowed.add(request.host)
        return NetworkDecision.allow()


class LoopbackWorld(World):
    """Keeps no events; counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.emitted = 0

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        return (ip_address("127.0.0.1"),)

    def emit(self, event: object) -> None:
        self.emitted += 1


def questions(seed: int, start: int) -> list[NetworkPolicyRequest]:
    """Half of them unlisted, each of these once; the others listed or denied."""
    drawn = random.Random(seed + start)
    hosts = [
        drawn.choice((f"h{number}.test", f"h{number}.test", "a.listed.test", f"h{number}.denied.test"))
        for number in range(start, start + AT_ONCE)
    ]
    return [NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, parse_endpoint(host, 443)) for host in hosts]


def test_fifty_thousand_decisions() -> None:
    decider, world = Moody(SEED), LoopbackWorld()
    authority = Authority(compiled(POLICY), Surroundings(world, world, world, decider, decider_timeout=0.005))
    seen: Counter[tuple[str, str]] = Counter()

    def check(verdict: Verdict) -> None:
        host = verdict.request.host
        kind = "listed" if host == "a.listed.test" else "denied" if host.endswith(".denied.test") else "unlisted"
        match verdict:
            case Allowed():
                assert kind == "listed" or host in decider.allowed, host
            case Blocked():
                assert kind != "listed"
                assert kind != "denied" or verdict.reason == "denied"
            case _:
                raise AssertionError(verdict)
        seen[kind, type(verdict).__name__] += 1

    async def main() -> None:
        before = len(asyncio.all_tasks())
        for start in range(0, DECISIONS, AT_ONCE):
            for verdict in await asyncio.gather(*map(authority.decide, questions(SEED, start))):
                check(verdict)
        authority.close()
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - what is waited for is the end of tasks
            await asyncio.sleep(0)

    asyncio.run(main())
    assert seen.total() == DECISIONS
    assert decider.asked.keys() == set(Moody.MOODS)
    assert set(seen) == {("listed", "Allowed"), ("denied", "Blocked"), ("unlisted", "Allowed"), ("unlisted", "Blocked")}
    assert len(authority.blocked.snapshot()) == BUFFER_SIZE
    assert authority.blocked.total == seen["denied", "Blocked"] + seen["unlisted", "Blocked"]
    assert world.emitted == DECISIONS, "one event for each"


def test_two_hundred_starts_and_stops(tmp_path: Path, origin: HttpOrigin, caplog: pytest.LogCaptureFixture) -> None:
    """With clients that are being decided on, relayed, served by the engine or just there when the proxy ends."""
    drawn, decider = random.Random(SEED), Moody(SEED)

    async def ask(proxy: NetworkProxy, number: int) -> None:
        kind = drawn.randrange(4)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if kind == 0:
                answer = await tunnel(proxy, f"u{number}.test", origin.port)
                assert answer.status == 403 or f"u{number}.test" in decider.allowed
            elif kind == 1:
                assert (await tunnel(proxy, "allowed.test", origin.port)).status == 200
            elif kind == 2:
                assert (await get(proxy, "denied.test", origin.port)).status == 403
            else:
                _, writer = await connect(proxy.http_address)
                writer.close()

    async def cycle(number: int) -> None:
        made = builder(tmp_path).policy_decider(decider).decider_timeout(0.005)
        async with made.start() as proxy:
            clients = [asyncio.create_task(ask(proxy, number * 10 + each)) for each in range(drawn.randrange(5))]
            await asyncio.wait([asyncio.create_task(asyncio.sleep(0)), *clients[: drawn.randrange(5)]])
        for client in clients:
            await client

    async def main() -> None:
        for number in range(5):
            await cycle(number)
        before = holdings()
        for number in range(5, CYCLES):
            await cycle(number)
        await until(lambda: not holdings().beyond(before))

    asyncio.run(main())
    assert "canary" not in caplog.text
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
