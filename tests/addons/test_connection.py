"""Connections of the engine: dialled only where a grant leads, to the checked address, and ended in time (class C)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.proxy import server_hooks

from codex_network_proxy.addons import connection
from codex_network_proxy.addons.connection import REFUSED
from codex_network_proxy.addons.sessions import session_of
from codex_network_proxy.policy.decision import IPAddress
from codex_network_proxy.socks.dialler import DialError, DialFailure, dial

from .engine_kit import HOOKED, Lab, OriginPeer, configuration, play, polite, reply
from .h2_kit import get as h2_get
from .h2_kit import http2
from .http1_requests import HOST, get
from .other_addons import Other


def test_names_are_not_looked_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine would ask the system's resolver; here the checked address is dialled."""
    dialled: list[tuple[Sequence[IPAddress], int]] = []

    async def recording(addresses: Sequence[IPAddress], port: int) -> Any:
        dialled.append((addresses, port))
        return await dial(addresses, port)

    monkeypatch.setattr(connection, "dial", recording)

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        assert (await (await lab.client()).ask(get(origin.port))).status == 200
        assert dialled == [((ip_address("127.0.0.1"),), origin.port)]

    play(scenario, tmp_path)


def test_a_refused_dial_says_so(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        lab._servers[-1].close()
        await lab._servers[-1].wait_closed()
        answer = await (await lab.client()).ask(get(origin.port))
        assert (answer.status, answer.body) == (502, b"upstream failure: connection refused")

    play(scenario, tmp_path)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DialError(DialFailure.TIMED_OUT), "connection timed out"),
        (DialError(DialFailure.HOST_UNREACHABLE), "host unreachable"),
        (ValueError("an odd one with canary words"), "could not connect"),
        (OSError("canary"), "could not connect"),
    ],
)
def test_a_dial_that_fails_in_any_way_is_a_502(
    error: Exception, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(addresses: object, port: int) -> Any:
        raise error

    monkeypatch.setattr(connection, "dial", failing)

    async def scenario(lab: Lab) -> None:
        answer = await (await lab.client()).ask(get(1))
        assert (answer.status, answer.body.decode()) == (502, f"upstream failure: {text}")
        target = b"allowed.test:1"
        refused = await (await lab.client()).ask(
            b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (target, target), "CONNECT"
        )
        assert (refused.status, refused.body.decode()) == (502, f"upstream failure: {text}")
        assert refused.get("content-type") == "text/plain"

    play(scenario, tmp_path, fast_path=False)


@pytest.mark.parametrize("hook", ["requestheaders", "server_connect"])
def test_a_target_that_another_addon_gave_the_server_is_not_dialled(hook: str, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()

        def redirect(data: Any) -> None:
            server = data.server if isinstance(data, server_hooks.ServerConnectionHookData) else data.server_conn
            server.address = ("other.test", origin.port)

        lab.add(Other(hook, redirect), None if hook == "server_connect" else "codex-settings")
        answer = await (await lab.client()).ask(get(origin.port))
        if hook == "server_connect":
            assert (answer.status, answer.body) == (502, f"upstream failure: {REFUSED}".encode())
            assert not origin.connections
        else:
            assert answer.status == 200, "the engine does not look there"

    play(scenario, tmp_path)


def test_another_addon_may_refuse_a_dial(tmp_path: Path) -> None:
    def refuse(data: server_hooks.ServerConnectionHookData) -> None:
        data.server.error = "canary"

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        lab.add(Other("server_connect", refuse))
        answer = await (await lab.client()).ask(get(origin.port))
        assert answer.status == 502
        assert b"canary" not in answer.body
        assert not origin.connections

    play(scenario, tmp_path)


def test_c04_a_connection_is_cut_when_its_address_is_no_longer_allowed(tmp_path: Path) -> None:
    """An idle one too: the next request would use it, however good its own address is."""

    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        assert (await client.ask(get(origin.port))).status == 200
        lab.reload(configuration(lines=['denied_domains = ["127.0.0.0/8"]']))
        assert await client.closed()

    play(scenario, tmp_path)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(['mode = "limited"'], id="another mode"),
        pytest.param(['denied_domains = ["denied.test", "other.test"]'], id="another host denied"),
    ],
)
def test_an_idle_connection_outlives_what_does_not_concern_it(lines: list[str], tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        request = get(origin.port).replace(b"GET", b"POST", 1)
        assert (await client.ask(request)).status == 200
        lab.reload(configuration(lines=lines))
        assert (await client.ask(get(origin.port))).status == 200
        assert origin.connections == 1

    play(scenario, tmp_path)


def test_a_session_lasts_as_long_as_its_connection(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        ids: list[str] = []
        gone = asyncio.Event()
        lab.add(Other("client_connected", lambda one: ids.append(one.id)))
        watch = Other("client_disconnected", lambda one: gone.set())
        watch.name = "watch"
        lab.add(watch)
        assert (await client.ask(get(origin.port))).status == 200
        assert session_of(ids[0])
        client.close()
        await gone.wait()
        while session_of(ids[0]):
            await lab.master.event_loop.run_in_executor(None, lambda: None)

    play(scenario, tmp_path)


@pytest.mark.parametrize("version", [1, 2])
def test_an_origin_that_never_finishes_its_handshake(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TLS_DEADLINE", 0.01)

    async def silent(peer: OriginPeer) -> None:
        await peer.reader.read()

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(silent)
        if version == 1:
            client = await lab.tunnel(origin.port)
            answer = await client.ask(b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + b"\r\n")
            assert answer.status == 502
        else:
            assert (await (await http2(lab, origin.port)).ask(h2_get(origin.port))).status == 502

    play(scenario, tmp_path)


def test_an_established_connection_is_not_cut_by_that_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TLS_DEADLINE", 0.0)

    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        for _ in range(3):
            assert (await client.ask(get(origin.port))).status == 200
        assert origin.connections == 1

    play(scenario, tmp_path)


def test_an_origin_that_answers_while_it_is_sent_to(tmp_path: Path) -> None:
    """Both directions are full: who waits for the one to drain before it reads the other waits for ever."""
    size = 32 << 20

    async def echo(peer: OriginPeer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        left = size
        while left:
            data = await peer.reader.read(1 << 16)
            left -= len(data)
            await peer.send(data)

    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(echo), await lab.client()
        request = get(origin.port, b"/", b"allowed.test", b"content-length: %d" % size).replace(b"GET", b"POST", 1)
        await client.send(request)

        async def upload() -> None:
            for _ in range(size >> 20):
                await client.send(bytes(1 << 20))

        sending = asyncio.create_task(upload())
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 200 ")
        await client.reader.readexactly(size)
        await sending

    play(scenario, tmp_path)


def test_a_half_of_a_relayed_tunnel_may_end_first(tmp_path: Path) -> None:
    async def patient(peer: OriginPeer) -> None:
        assert await peer.reader.read() == b"all of it"
        await peer.send(b"thanks")

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(patient)
        client = await lab.connect(origin.port, "allowed.test")
        await client.send(b"all of it")
        client.writer.write_eof()
        assert await client.reader.read() == b"thanks"
        assert not origin.errors

    play(scenario, tmp_path, fast_path=False)


def test_a_flow_that_is_shown_holds_no_address_that_was_not_asked_for(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        flows: list[http.HTTPFlow] = []
        lab.add(Other("response", flows.append))
        origin = await lab.origin(polite, tls=[HOOKED])
        client = await lab.tunnel(origin.port)
        await client.ask(b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + b"\r\n")
        server = flows[-1].server_conn
        assert server.address == (HOOKED, origin.port)
        assert server.peername == ("127.0.0.1", origin.port)
        assert server.sni == HOOKED

    play(scenario, tmp_path)


def test_the_sni_upstream_is_canonical(tmp_path: Path) -> None:
    names: list[str | None] = []

    async def answering(peer: OriginPeer) -> None:
        await peer.request()
        names.append(peer.writer.get_extra_info("ssl_object").asked_name)
        await peer.send(reply())

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(answering, tls=[HOOKED])
        client = await lab.connect(origin.port)
        await client.writer.start_tls(lab.trust(), server_hostname="HOOKED.test")
        answer = await client.ask(b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + b"\r\n")
        assert answer.status == 200

    play(scenario, tmp_path)
    assert names == [HOOKED]
