"""What is logged of a connection: that it failed and why, and nothing that a client or an origin sent."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from mitmproxy import connection as engine_connection

from codex_network_proxy.addons import connection
from codex_network_proxy.addons.connection import HARMLESS
from codex_network_proxy.addons.http_streams import PolicedHttpStream

from .engine_kit import HOOKED, Answer, Lab, Peer, play
from .http1_requests import get


@pytest.mark.parametrize(
    "message",
    [
        "Unexpected data from server: b'canary'",
        "Client closed connection before completing request headers: b'canary'",
        "Received WebSocket ping from client (payload: b'canary')",
        "127.0.0.1:1: Bad HTTP request line: b'GET /canary'",
        "127.0.0.1:1: HTTP/2 protocol error: Illegal character in header value: b'canary'",
        "Client TLS handshake failed. canary",
        "Streaming request to canary.",
    ],
)
def test_what_the_engine_quotes_is_not_logged(message: str, caplog: pytest.LogCaptureFixture) -> None:
    handler = cast(Any, object.__new__(connection.PolicedConnection))
    handler.client = engine_connection.Client(peername=("a", 1), sockname=("b", 2))
    with caplog.at_level(logging.DEBUG):
        handler.log(message)
    assert "canary" not in caplog.text


@pytest.mark.parametrize("start", HARMLESS)
def test_what_it_says_of_connections_is(start: str, caplog: pytest.LogCaptureFixture) -> None:
    handler = cast(Any, object.__new__(connection.PolicedConnection))
    handler.client = engine_connection.Client(peername=("a", 1), sockname=("b", 2))
    with caplog.at_level(logging.DEBUG):
        handler.log(start)
    assert caplog.messages == [start]


def test_a_layer_that_crashes_ends_its_connection_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(self: object) -> None:
        raise RuntimeError("canary")

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        bystander: Peer = await lab.client()
        assert (await bystander.ask(get(origin.port))).status == 200
        with monkeypatch.context() as patch:
            patch.setattr(PolicedHttpStream, "make_server_connection", crash)
            client = await lab.client()
            await client.send(get(origin.port))
            assert await client.closed()
        assert (await bystander.ask(get(origin.port))).status == 200

    with caplog.at_level(logging.DEBUG):
        play(scenario, tmp_path)
    assert "a protocol layer crashed (RuntimeError); the connection is cut" in caplog.text
    assert "canary" not in caplog.text


Ask = Callable[[Lab, int], Awaitable[object]]


async def ask_plainly(lab: Lab, port: int) -> Answer:
    return await (await lab.client()).ask(get(port))


async def ask_to_connect(lab: Lab, port: int) -> Answer:
    target = b"allowed.test:%d" % port
    return await (await lab.client()).ask(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (target, target), "CONNECT")


async def ask_over_socks(lab: Lab, port: int) -> tuple[Peer, int]:
    return await lab.ask_socks(port, "allowed.test")


async def ask_inside(lab: Lab, port: int) -> Answer:
    return await (await lab.tunnel(port)).ask(b"GET /ok HTTP/1.1\r\nhost: %b:%d\r\n\r\n" % (HOOKED.encode(), port))


@pytest.mark.parametrize("fast_path", [True, False])
@pytest.mark.parametrize("ask", [ask_plainly, ask_to_connect, ask_over_socks, ask_inside])
def test_a_target_that_is_not_reached_is_logged_and_told_once(
    ask: Ask, fast_path: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str]] = []

    async def scenario(lab: Lab, port: int) -> None:
        lab.runtime.authority.on_failure(lambda request, why: told.append((str(request.target), why)))
        await ask(lab, port)

    with socket.socket() as deaf, caplog.at_level(logging.INFO):
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        play(lambda lab: scenario(lab, port), tmp_path, fast_path=fast_path)
    host = HOOKED if ask is ask_inside else "allowed.test"
    assert told == [(f"{host}:{port}", "upstream failure: connection refused")]
    (line,) = (line for line in caplog.messages if line.startswith("upstream request failed"))
    assert line.startswith("upstream request failed: upstream failure: connection refused (client=127.0.0.1:")
    assert f"host={host}, port={port}" in line


@pytest.mark.parametrize("ask", [ask_plainly, ask_to_connect])
def test_a_client_that_leaves_before_the_target_is_reached_has_not_failed(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dialling, ended = asyncio.Event(), asyncio.Event()

    async def endless(addresses: object, port: int) -> Any:
        dialling.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(connection, "dial", endless)

    async def scenario(lab: Lab) -> None:
        asking = asyncio.ensure_future(ask(lab, 1))
        await dialling.wait()
        for peer in lab._peers:
            peer.writer.transport.abort()
        await asyncio.wait([asking])
        assert isinstance(asking.exception(), ConnectionError | EOFError)
        await ended.wait()

    with caplog.at_level(logging.INFO):
        play(scenario, tmp_path, fast_path=False)
    assert "upstream request failed" not in caplog.text
