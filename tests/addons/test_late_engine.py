"""Clients that come before the engine is loaded: served in the end, or cut, and never forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from codex_network_proxy.addons.handover import HandOver
from codex_network_proxy.addons.late_engine import LateEngine
from codex_network_proxy.policy.decision import ClientScope, NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.hosts import parse_endpoint
from tests.socks.sockets import PATIENCE, run, tcp_pair

from .flow_kit import bench
from .running_door import allowed


class Loaded:
    """An engine that keeps what it is given."""

    def __init__(self) -> None:
        self.taken: list[HandOver] = []
        self.closed = self.waited = 0
        self.scopes: list[ClientScope] = []

    def take(self, handover: HandOver) -> None:
        self.taken.append(handover)

    def recheck(self) -> int:
        return 7

    def close_scope(self, scope: ClientScope) -> None:
        self.scopes.append(scope)

    def close(self) -> None:
        self.closed += 1

    async def wait_closed(self) -> None:
        self.waited += 1


class Client:
    """The client's end of a connection that is handed over, and how often its end was reported."""

    def __init__(self, host: str | None = None) -> None:
        self.sock, self._theirs = tcp_pair()
        self.sock.settimeout(PATIENCE)
        self.ended = 0
        self.handover = HandOver(self._theirs, b"GET / HTTP/1.1\r\n\r\n", "127.0.0.1:5", None, self._done)
        if host:
            request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, parse_endpoint(f"{host}:443"))
            self.handover = replace(self.handover, verdict=allowed(request, inspect=True))

    def _done(self) -> None:
        self.ended += 1

    def was_cut(self) -> bool:
        with self.sock:
            return self.sock.recv(1) == b"" and self.ended == 1

    def close(self) -> None:
        self.sock.close()
        self._theirs.close()


class Loader:
    """Loads when the test says so. Counts how often it was asked."""

    def __init__(self, *outcomes: Loaded | Exception) -> None:
        self.outcomes = list(outcomes)
        self.asked = 0
        self.go = asyncio.Event()

    async def __call__(self) -> Loaded:
        self.asked += 1
        await self.go.wait()
        self.go.clear()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


Scenario = Callable[[LateEngine, Loader], Awaitable[None]]


def play(scenario: Scenario, *outcomes: Loaded | Exception) -> None:
    async def body() -> None:
        loader = Loader(*outcomes)
        with bench() as here:
            await scenario(LateEngine(here.authority, loader), loader)

    run(body)


async def turns() -> None:
    """Lets everything run that is ready to."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_nothing_is_loaded_before_the_first_client() -> None:
    async def scenario(engine: LateEngine, loader: Loader) -> None:
        await turns()
        assert loader.asked == 0
        assert engine.recheck() == 0
        engine.close()
        await engine.wait_closed()

    play(scenario)


def test_clients_wait_for_one_engine_which_then_takes_them_all() -> None:
    loaded, clients = Loaded(), [Client(), Client(), Client()]

    async def scenario(engine: LateEngine, loader: Loader) -> None:
        engine.take(clients[0].handover)
        engine.take(clients[1].handover)
        await turns()
        assert (loader.asked, loaded.taken) == (1, [])
        loader.go.set()
        await turns()
        engine.take(clients[2].handover)
        assert loaded.taken == [client.handover for client in clients]
        assert loader.asked == 1
        assert engine.recheck() == 7
        engine.close()
        await engine.wait_closed()
        assert (loaded.closed, loaded.waited) == (1, 1)

    play(scenario, loaded)
    for client in clients:
        assert client.ended == 0, "it is the engine's now"
        client.close()


def test_an_engine_that_cannot_be_loaded_costs_those_who_wait_and_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loaded, first, second = Loaded(), Client(), Client()

    async def scenario(engine: LateEngine, loader: Loader) -> None:
        engine.take(first.handover)
        loader.go.set()
        await turns()
        engine.take(second.handover)
        loader.go.set()
        await turns()
        assert loaded.taken == [second.handover]

    with caplog.at_level(logging.ERROR):
        play(scenario, ImportError("no module named mitmproxy"), loaded)
    assert first.was_cut()
    assert caplog.messages == [
        "the engine could not be loaded (no module named mitmproxy); connections that need it are closed"
    ]
    second.close()


def test_who_waits_is_cut_when_the_door_closes() -> None:
    client = Client()

    async def scenario(engine: LateEngine, loader: Loader) -> None:
        engine.take(client.handover)
        await turns()
        engine.close()
        await engine.wait_closed()

    play(scenario)
    assert client.was_cut()


def test_who_waits_is_cut_with_its_scope_and_nobody_elses() -> None:
    loaded, scope = Loaded(), ClientScope(command="a")
    same, bad = Client(), Client()
    same.handover = replace(same.handover, scope=ClientScope(command="a"))
    bad.handover = replace(bad.handover, scope=scope)

    async def scenario(engine: LateEngine, loader: Loader) -> None:
        engine.take(same.handover)
        engine.take(bad.handover)
        engine.close_scope(scope)
        loader.go.set()
        await turns()
        assert loaded.taken == [same.handover]
        engine.close_scope(scope)
        assert loaded.scopes[0] is scope

    play(scenario, loaded)
    assert bad.was_cut()
    same.close()


def test_who_waits_is_cut_when_the_policy_turns_against_it() -> None:
    loaded, good, bad, undecided = Loaded(), Client("hooked.test"), Client("denied.test"), Client()

    async def scenario(engine: LateEngine, loader: Loader) -> None:
        for client in (good, bad, undecided):
            engine.take(client.handover)
        assert engine.recheck() == 1
        loader.go.set()
        await turns()
        assert loaded.taken == [good.handover, undecided.handover]

    play(scenario, loaded)
    assert bad.was_cut()
    good.close()
    undecided.close()
