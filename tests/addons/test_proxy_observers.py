"""What a program that embeds the proxy is told: every decision, every block, in order, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from codex_network_proxy import BlockedRequest, NetworkDecision, NetworkPolicyRequest, NetworkProxy, PolicyDecisionEvent

from .library_kit import builder, tunnel


async def ask_five(proxy: NetworkProxy) -> None:
    for number in range(5):
        assert (await tunnel(proxy, f"h{number}.test", 443)).status == 403


HOSTS = [f"h{number}.test" for number in range(5)]


def test_async_observers_are_told_in_the_programs_loop_before_shutdown_is_over(tmp_path: Path) -> None:
    events: list[PolicyDecisionEvent] = []
    blocks: list[BlockedRequest] = []
    where: set[object] = set()

    async def audit(event: PolicyDecisionEvent) -> None:
        where.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        events.append(event)

    async def blocked(entry: BlockedRequest) -> None:
        where.add(threading.current_thread())
        await asyncio.sleep(0)
        blocks.append(entry)

    async def main() -> None:
        made = builder(tmp_path).audit_observer(audit).blocked_request_observer(blocked)
        made.audit_metadata({"conversation.id": "c-1", "app.version": None})
        async with made.start() as proxy:
            await ask_five(proxy)
        assert where == {asyncio.get_running_loop(), threading.current_thread()}

    asyncio.run(main())
    assert [event.host for event in events] == [entry.host for entry in blocks] == HOSTS
    assert {event.fields()["conversation.id"] for event in events} == {"c-1"}
    logged = (tmp_path / "log" / "network-proxy.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in logged] == [event.fields() for event in events]


def test_plain_observers_are_told_in_threads_of_their_own(tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []

    def observer(item: PolicyDecisionEvent | BlockedRequest) -> None:
        told.append((item.host, threading.current_thread() is threading.main_thread()))

    async def main() -> None:
        async with builder(tmp_path).audit_observer(observer).blocked_request_observer(observer).start() as proxy:
            await ask_five(proxy)

    asyncio.run(main())
    assert sorted(told) == sorted([(host, False) for host in HOSTS] * 2)


def test_without_a_loop_async_observers_have_one_of_their_own(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []

    async def observer(entry: BlockedRequest) -> None:
        told.append((entry.host, threading.current_thread().name))

    with builder(tmp_path).blocked_request_observer(observer).start_sync() as proxy:
        asyncio.run(ask_five(proxy))
    assert told == [(host, "codex-network-proxy-callbacks") for host in HOSTS]


@pytest.mark.parametrize("how", ["hangs", "raises"])
def test_an_observer_that_fails_delays_no_answer_and_no_end(how: str, tmp_path: Path) -> None:
    async def observer(entry: BlockedRequest) -> None:
        if how == "raises":
            raise ValueError("canary")
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with builder(tmp_path).blocked_request_observer(observer).start() as proxy:
            await ask_five(proxy)
            assert [entry.host for entry in proxy.blocked_snapshot()] == HOSTS

    asyncio.run(main())


def test_metadata_that_may_not_be_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"use one of conversation\.id"):
        NetworkProxy.builder().audit_metadata({"password": "x"})


def test_nothing_passes_while_a_required_audit_log_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "audit.jsonl").mkdir()

    async def decider(request: NetworkPolicyRequest) -> NetworkDecision:
        return NetworkDecision.allow()

    async def main() -> None:
        made = builder(tmp_path).policy_decider(decider).audit_log(tmp_path / "log" / "audit.jsonl")
        async with made.fail_closed_audit().start() as proxy:
            assert (await tunnel(proxy, "other.test", 443)).status == 500

    asyncio.run(main())
