"""One engine, several proxies: whose client it is decides which policy, secret, certificate and root counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from mitmproxy import ctx
from mitmproxy.master import Master

from codex_network_proxy.addons.authority import Authority
from codex_network_proxy.addons.engine import InProcessEngine, running
from codex_network_proxy.addons.handover import HandOver
from codex_network_proxy.addons.master import RunningEngine
from codex_network_proxy.addons.runtime import RunOptions, Runtime
from codex_network_proxy.policy.decision import ClientScope, NetworkPolicyRequest, NetworkProtocol, Verdict
from codex_network_proxy.policy.hosts import parse_endpoint
from tests.kit.tls import TestAuthority
from tests.socks.sockets import tcp_pair

from .engine_kit import HOOKED, NAMES, PATIENCE, Answer, Lab, Peer, configuration, laboratory, polite
from .flow_kit import bench
from .http1_requests import get
from .running_door import allowed

OTHER_SECRET = "canary-other-77"
ONLY_OTHER = configuration(lines=['allowed_domains = ["hooked.test", "other.test"]'])
ONLY_ALLOWED = configuration(lines=['allowed_domains = ["hooked.test", "allowed.test"]'])


@asynccontextmanager
async def neighbours(folder: Path) -> AsyncIterator[tuple[Lab, Lab]]:
    """Two proxies with policies, secrets, certificate authorities and trusted roots of their own, in one engine."""
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    async with laboratory(folder / "one", ONLY_ALLOWED) as one:
        home, trusted = folder / "two", TestAuthority(folder / "two")
        config = home / "config.toml"
        config.write_text(ONLY_OTHER)
        environ = {"CODEX_HOME": str(home), "TOKEN": OTHER_SECRET, "SSL_CERT_FILE": str(trusted.bundle)}
        runtime = Runtime(RunOptions(config=config, pins=tuple(f"{name}=127.0.0.1" for name in NAMES)), environ)
        engine = InProcessEngine(running(one.master), runtime)
        runtime.authority.on_policy(lambda: (engine.recheck(), None)[1])
        runtime.open_door(engine)
        two = Lab(RunningEngine(one.master, runtime, one.engine._task), runtime, trusted, config)
        try:
            yield one, two
        finally:
            for peer in two._peers:
                peer.close()
            for server in two._servers:
                server.close()
            engine.close()
            runtime.close()


Scenario = Callable[[Lab, Lab], Awaitable[None]]


def play(scenario: Scenario, folder: Path) -> None:
    async def run() -> None:
        async with neighbours(folder) as (one, two):
            await scenario(one, two)

    asyncio.run(run())


async def ask(lab: Lab, url_host: str, port: int) -> Answer:
    return await (await lab.client()).ask(get(port, host=url_host.encode()))


async def ask_inside(lab: Lab, port: int) -> Answer:
    """A request to the hooked host, in a tunnel that is read."""
    client = await lab.tunnel(port)
    return await client.ask(b"GET /ok HTTP/1.1\r\nHost: %b:%d\r\n\r\n" % (HOOKED.encode(), port))


def test_each_client_is_judged_by_its_own_proxys_policy(tmp_path: Path) -> None:
    async def scenario(one: Lab, two: Lab) -> None:
        origin = await one.origin(polite)
        for _ in range(2):
            assert (await ask(one, "allowed.test", origin.port)).status == 200
            assert (await ask(two, "allowed.test", origin.port)).status == 403
            assert (await ask(one, "other.test", origin.port)).status == 403
            assert (await ask(two, "other.test", origin.port)).status == 200
        assert [entry.host for entry in one.policy.blocked.snapshot()] == ["other.test"] * 2
        assert [entry.host for entry in two.policy.blocked.snapshot()] == ["allowed.test"] * 2

    play(scenario, tmp_path)


def test_each_proxy_shows_its_own_certificate_injects_its_own_secret_and_trusts_its_own_roots(tmp_path: Path) -> None:
    async def scenario(one: Lab, two: Lab) -> None:
        mine, yours = await one.origin(polite, tls=[HOOKED]), await two.origin(polite, tls=[HOOKED])
        for _ in range(2):
            assert (await ask_inside(one, mine.port)).status == 200
            assert (await ask_inside(two, yours.port)).status == 200
        assert {request.values(b"authorization")[0] for request in mine.requests} == {b"Bearer canary-4b1f7c"}
        assert {request.values(b"authorization")[0] for request in yours.requests} == {b"Bearer canary-other-77"}
        assert (await ask_inside(one, yours.port)).status == 502, "an origin that only the other trusts"
        assert (await ask_inside(two, mine.port)).status == 502
        assert (len(mine.requests), len(yours.requests)) == (2, 2)

    play(scenario, tmp_path)


def test_a_change_of_one_policy_cuts_no_connection_of_the_other(tmp_path: Path) -> None:
    async def scenario(one: Lab, two: Lab) -> None:
        origin = await one.origin(polite)
        first, second = await one.client(), await two.client()
        assert (await first.ask(get(origin.port, host=b"allowed.test"))).status == 200
        assert (await second.ask(get(origin.port, host=b"other.test"))).status == 200
        two.reload(ONLY_ALLOWED)
        assert await second.closed()
        assert (await first.ask(get(origin.port, host=b"allowed.test"))).status == 200
        one.reload(ONLY_OTHER)
        assert await first.closed()

    play(scenario, tmp_path)


# -- the hand-over itself ----------------------------------------------------------------------------------------------


class Client:
    """The client's end of a connection that is handed over, and how often its end was reported."""

    def __init__(self, received: bytes = b"GET / HTTP/1.1\r\n\r\n") -> None:
        self.sock, theirs = tcp_pair()
        self.sock.settimeout(PATIENCE)
        self.ended = 0
        self.handover = HandOver(theirs, received, "127.0.0.1:5", None, self._done)

    def _done(self) -> None:
        self.ended += 1

    def is_closed(self) -> bool:
        with self.sock:
            return self.sock.recv(1) == b""


def serve(source: Callable[[], Awaitable[Master]], client: Client, then: Callable[[InProcessEngine], None]) -> None:
    async def run() -> None:
        with bench() as here:
            engine = InProcessEngine(source, here.tenant)
            engine.take(client.handover)
            then(engine)
            while engine._tasks:  # noqa: ASYNC110 - what is waited for is the end of tasks
                await asyncio.sleep(0)

    asyncio.run(run())


async def never() -> Master:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def broken() -> Master:
    raise ImportError("canary")


async def not_ours() -> Master:
    """An engine that is no longer the one of this process."""
    ctx.master = None  # type: ignore[assignment]  # as another master would replace it
    return object()  # type: ignore[return-value]  # nothing of it is used


def test_an_engine_that_cannot_start_costs_the_connection_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    with caplog.at_level(logging.ERROR):
        serve(broken, client, lambda engine: None)
    assert client.is_closed()
    assert client.ended == 1
    assert caplog.messages == ["an engine connection failed (ImportError)"]


def test_under_another_engines_options_nobody_is_served(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctx, "master", None, raising=False)
    client = Client()
    serve(not_ours, client, lambda engine: None)
    assert client.is_closed()
    assert caplog.messages == ["an engine connection failed (RuntimeError)"]


def test_a_connection_that_waits_for_the_engine_can_be_cut() -> None:
    client = Client()
    serve(never, client, lambda engine: engine.close())
    assert client.is_closed()
    assert client.ended == 1


def test_a_connection_that_waits_for_the_engine_is_cut_when_the_policy_turns_against_it() -> None:
    client, told = Client(), []
    request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, parse_endpoint("denied.test:443"))
    client.handover = replace(client.handover, verdict=allowed(request, inspect=True))
    serve(never, client, lambda engine: told.append(engine.recheck()))
    assert told == [1]
    assert client.is_closed()


def test_what_the_embedding_code_said_of_a_client_reaches_every_question(tmp_path: Path) -> None:
    """On a plain request, on a CONNECT that the engine decides, and on the request inside it."""
    scope = ClientScope(command="curl a", execution_id="e-1")

    async def run() -> list[tuple[str | None, ClientScope]]:
        async with laboratory(tmp_path) as lab:
            asked: list[NetworkPolicyRequest] = []
            lab.runtime.authority = cast(Any, Onlooker(lab.policy, asked))
            plain, secure = await lab.origin(polite), await lab.origin(polite, tls=[HOOKED])
            engine = InProcessEngine(running(lab.master), lab.runtime)

            async def enter(head: bytes) -> Peer:
                ours, theirs = tcp_pair()
                engine.take(HandOver(theirs, head, "127.0.0.1:5", None, lambda: None, scope))
                peer = Peer(*await asyncio.open_connection(sock=ours))
                lab._peers.append(peer)
                return peer

            assert (await (await enter(get(plain.port))).answer()).status == 200
            inside = await enter(b"CONNECT hooked.test:%d HTTP/1.1\r\n\r\n" % secure.port)
            assert (await inside.answer("CONNECT")).status == 200
            await inside.writer.start_tls(lab.trust(), server_hostname=HOOKED)
            request = b"GET /ok HTTP/1.1\r\nHost: hooked.test:%d\r\n\r\n" % secure.port
            assert (await inside.ask(request)).status == 200
            return [(one.method, one.scope) for one in asked]

    assert asyncio.run(run()) == [("GET", scope), ("CONNECT", scope), ("GET", scope)]


class Onlooker:
    """An authority that notes what it is asked."""

    def __init__(self, authority: Authority, asked: list[NetworkPolicyRequest]) -> None:
        self._authority = authority
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._authority, name)

    async def decide(self, request: NetworkPolicyRequest, *more: Any) -> Verdict:
        self._asked.append(request)
        return await self._authority.decide(request, *more)
