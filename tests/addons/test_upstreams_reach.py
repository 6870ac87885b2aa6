"""The way through an upstream proxy for code that does not await: it is told once, or has given up."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from codex_network_proxy.addons.door_reach import Outcome, Reached, Unreached
from codex_network_proxy.addons.upstreams import Upstreams
from codex_network_proxy.socks.dialler import DialFailure
from tests.kit.tls import TestAuthority
from tests.socks.sockets import run

from .upstream_kit import CANARY, PROXY, FakeResolver, FakeUpstream, Peer, echo, refuses, through, upstreams, ways

# -- for code that does not await ------------------------------------------------------------------------------------


async def reach(opener: Upstreams, proxy: FakeUpstream, name: str = PROXY) -> Outcome:
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    opener.reach(through(proxy.proxy(name, authorization=CANARY)), done.set_result)
    assert not done.done(), "whoever asks must have the way before it ends"
    return await done


def test_who_does_not_await_is_told() -> None:
    async def scenario() -> None:
        async with FakeUpstream(echo) as proxy:
            outcome = await reach(upstreams(), proxy)
            assert isinstance(outcome, Reached)
            outcome.sock.close()

    run(scenario)


def test_a_failure_is_told() -> None:
    async def scenario() -> None:
        async with FakeUpstream(refuses) as proxy:
            outcome = await reach(upstreams(), proxy)
            assert outcome == Unreached(DialFailure.REFUSED, "the upstream proxy answered 403")

    run(scenario)


def test_an_error_inside_is_a_failure_and_its_text_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeResolver):
        async def resolve(self, name: str, port: int) -> tuple[()]:
            raise ValueError("canary")

    async def scenario() -> None:
        async with FakeUpstream(echo) as proxy:
            outcome = await reach(upstreams(Broken()), proxy)
            assert outcome == Unreached(DialFailure.OTHER, "could not connect")

    run(scenario)
    assert "(ValueError)" in caplog.text
    assert "canary" not in caplog.text


@ways
def test_nobody_is_told_of_a_way_that_was_given_up(
    secure: bool, upstream_tls: ssl.SSLContext, authority: TestAuthority
) -> None:
    told: list[Outcome] = []

    async def scenario() -> None:
        asked = asyncio.Event()

        async def waits(peer: Peer) -> None:
            await peer.asked()
            asked.set()
            await peer.reader.read()

        async with FakeUpstream(waits, upstream_tls if secure else None) as proxy:
            way = upstreams(bundle=authority.bundle).reach(through(proxy.proxy()), told.append)
            await asked.wait()
            way.cancel()
            way.cancel()
            await proxy.gone()

    run(scenario)
    assert not told


def test_a_way_that_was_given_up_too_late_leaves_no_socket() -> None:
    told: list[Outcome] = []

    async def scenario() -> None:
        async with FakeUpstream(echo) as proxy:
            way = upstreams().reach(through(proxy.proxy()), told.append)
            # Of several callbacks the first one in is the first one called: this one comes before the way's own.
            way.task.remove_done_callback(way._finished)
            way.task.add_done_callback(lambda _: way.cancel())
            way.task.add_done_callback(way._finished)
            await asyncio.wait((way.task,))
            await proxy.gone()

    run(scenario)
    assert not told


def test_closing_ends_what_is_under_way() -> None:
    told: list[Outcome] = []

    async def scenario() -> None:
        opener, asked = upstreams(), asyncio.Event()

        async def waits(peer: Peer) -> None:
            await peer.asked()
            asked.set()
            await peer.reader.read()

        async with FakeUpstream(waits) as proxy:
            way = opener.reach(through(proxy.proxy()), told.append)
            await asked.wait()
            opener.close()
            await asyncio.wait((way.task,))
            await proxy.gone()

    run(scenario)
    assert not told
