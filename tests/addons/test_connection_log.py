"""What is logged of a connection: that it failed and why, and nothing that a client or an origin sent."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import pytest
from mitmproxy import connection as engine_connection

from codex_network_proxy.addons import connection
from codex_network_proxy.addons.connection import HARMLESS
from codex_network_proxy.addons.http_streams import PolicedHttpStream

from .engine_kit import Lab, Peer, play
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
