"""One engine, several proxies: whose client it is decides which policy, secret, certificate and root counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from mitmproxy import ctx

from codex_network_proxy.addons.authority import Authority
from codex_network_proxy.addons.engine import InProcessEngine
from codex_network_proxy.addons.handover import HandOver
from codex_network_proxy.addons.master import RunningEngine
from codex_network_proxy.addons.reload import cut_after_changes
from codex_network_proxy.addons.runtime import RunOptions, Runtime
from codex_network_proxy.policy.decision import ClientScope, NetworkPolicyRequest, Verdict
from tests.kit.tls import TestAuthority
from tests.socks.sockets import PATIENCE, reset, tcp_pair

from .engine_kit import HOOKED, NAMES, Answer, Lab, Peer, configuration, laboratory, polite
from .engine_kit import play as play_one
from .http1_requests import get
from .other_addons import Other

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
        engine = InProcessEngine(one.master, runtime)
        runtime.open_door(engine)
        cut_after_changes(runtime, engine)
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


def test_under_another_engines_options_nobody_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(one: Lab, two: Lab) -> None:
        client = await one.client()
        monkeypatch.setattr(ctx, "master", object())
        await client.send(get(1, host=b"allowed.test"))
        assert await client.closed()
        monkeypatch.undo()

    play(scenario, tmp_path)
    assert "an engine connection failed (RuntimeError)" in caplog.messages


def test_a_client_that_has_reset_its_connection_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with laboratory(tmp_path) as lab:
            engine, done = InProcessEngine(lab.master, lab.runtime), asyncio.Event()
            ours, theirs = tcp_pair()
            reset(ours)
            engine.take(HandOver(theirs, get(1), "127.0.0.1:5", None, done.set))
            await asyncio.wait_for(done.wait(), PATIENCE)
            await engine.wait_closed()
            assert theirs.fileno() == -1

    asyncio.run(run())
    assert "an engine connection failed (TypeError)" not in caplog.messages


def test_a_tunnel_that_a_new_policy_overtakes_in_the_engine_is_refused_on_record(tmp_path: Path) -> None:
    """Between the door's decision and the engine's first step nothing of the tunnel exists that could be cut."""

    async def run() -> tuple[int, str | None]:
        async with laboratory(tmp_path) as lab:

            def tighten(_: object) -> None:
                lab.reload(configuration(lines=['denied_domains = ["hooked.test"]']))

            lab.add(Other("client_connected", tighten))
            client = await lab.client()
            answer = await client.ask(b"CONNECT hooked.test:443 HTTP/1.1\r\n\r\n", "CONNECT")
            assert await client.closed()
            return answer.status, answer.get("x-proxy-error")

    assert asyncio.run(run()) == (403, "blocked-by-policy")
    found = [json.loads(line) for line in (tmp_path / "log" / "network-proxy.jsonl").read_text().splitlines()]
    assert [event["network.policy.decision"] for event in found] == ["allow", "deny"]


@pytest.mark.parametrize(
    ("hook", "seen"),
    [
        pytest.param("http_connect", ["CONNECT"], id="an addon that has a say in tunnels sees a request for each"),
        pytest.param("http_connected", ["CONNECT"], id="so does one that only looks"),
        pytest.param("requestheaders", ["GET"], id="for all others there is none"),
    ],
)
def test_who_sees_a_tunnel_as_a_request(hook: str, seen: list[str], tmp_path: Path) -> None:
    methods: list[str] = []

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(tls=[HOOKED])
        lab.add(Other(hook, lambda flow: methods.append(flow.request.method)))
        client = await lab.tunnel(origin.port)
        request = b"GET /ok HTTP/1.1\r\nHost: hooked.test:%d\r\n\r\n" % origin.port
        assert (await client.ask(request)).status == 200

    play_one(scenario, tmp_path)
    assert methods == seen


def test_what_the_embedding_code_said_of_a_client_reaches_every_question(tmp_path: Path) -> None:
    """On a plain request, on a CONNECT that the engine decides, and on the request inside it."""
    scope = ClientScope(command="curl a", execution_id="e-1")

    async def run() -> list[tuple[str | None, ClientScope]]:
        async with laboratory(tmp_path) as lab:
            asked: list[NetworkPolicyRequest] = []
            lab.runtime.authority = cast(Any, Onlooker(lab.policy, asked))
            plain, secure = await lab.origin(polite), await lab.origin(polite, tls=[HOOKED])
            engine = InProcessEngine(lab.master, lab.runtime)

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
