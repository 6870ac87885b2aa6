"""WebSockets through the engine: agreed on by both sides, frames and nothing else, until the policy ends them (H)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from mitmproxy import http

from codex_network_proxy.addons import websockets

from .engine_kit import HOOKED, Lab, OriginPeer, configuration, play
from .http1_requests import HOST, get
from .other_addons import Other
from .test_http_streams import DOORS

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
)
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
TEXT, MASKED, PING = b"\x81\x02hi", b"\x81\x82\x00\x00\x00\x00hi", b"\x89\x00"


async def talking(peer: OriginPeer) -> None:
    await peer.request()
    await peer.send(AGREED + TEXT)
    head = await peer.reader.readexactly(6)
    mask, payload = head[2:], await peer.reader.readexactly(2)
    assert (head[:2], bytes(a ^ b for a, b in zip(payload, mask, strict=False))) == (b"\x81\x82", b"hi")
    await peer.send(TEXT)
    await peer.reader.read()


@DOORS
@pytest.mark.parametrize("shown", [False, True], ids=["unseen", "shown"])
def test_a_websocket(door: str, shown: bool, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        view = lab.show() if shown else None
        origin = await lab.origin(talking, tls=None if door == "plain" else [HOOKED])
        if door == "plain":
            client = await lab.client()
            head = get(origin.port, b"/ok", b"allowed.test", *UPGRADE.split(b"\r\n")[:-1])
        else:
            client = await lab.tunnel(origin.port)
            head = b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + UPGRADE + b"\r\n"
        assert (await client.ask(head)).status == 101
        assert await client.reader.readexactly(4) == TEXT
        await client.send(MASKED)
        assert await client.reader.readexactly(4) == TEXT
        if view is not None:
            (one,) = view
            assert isinstance(one, http.HTTPFlow)
            assert one.websocket
            assert [message.text for message in one.websocket.messages] == ["hi"] * 3
        client.close()
        await asyncio.wait(origin.tasks)
        assert not origin.errors

    play(scenario, tmp_path)


def test_a_websocket_ends_with_a_policy_that_forbids_it(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(talking, tls=[HOOKED])
        client = await lab.tunnel(origin.port)
        await client.ask(b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + UPGRADE + b"\r\n")
        assert await client.reader.readexactly(4) == TEXT
        lab.reload(configuration("limited"))
        assert await client.closed()

    play(scenario, tmp_path)


def test_what_is_no_frame_ends_a_websocket(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(talking, tls=[HOOKED])
        client = await lab.tunnel(origin.port)
        await client.ask(b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + UPGRADE + b"\r\n")
        assert await client.reader.readexactly(4) == TEXT
        await client.send(b"GET /evil HTTP/1.1\r\nhost: evil.test\r\n\r\n")
        assert await client.reader.readexactly(4) == b"\x88\x02\x03\xea"
        assert await client.closed()

    play(scenario, tmp_path)


def test_a_shown_message_has_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(websockets, "MESSAGE_LIMIT", 1000)

    async def scenario(lab: Lab) -> None:
        lab.show()
        origin = await lab.origin(talking, tls=[HOOKED])
        client = await lab.tunnel(origin.port)
        await client.ask(b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + UPGRADE + b"\r\n")
        assert await client.reader.readexactly(4) == TEXT
        await client.send(b"\x02\xfe\x04\x00" + bytes(4) + bytes(1024))
        assert await client.reader.readexactly(4) == b"\x88\x02\x03\xf1", "too big"
        assert await client.closed()

    play(scenario, tmp_path)


def test_a_switch_that_another_addon_made_up_leads_nowhere(tmp_path: Path) -> None:
    def switch(one: http.HTTPFlow) -> None:
        assert one.response
        one.response.status_code = 101

    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        lab.add(Other("responseheaders", switch))
        await client.send(get(origin.port))
        received = await client.reader.read()
        assert b"evil" not in received

    play(scenario, tmp_path)
