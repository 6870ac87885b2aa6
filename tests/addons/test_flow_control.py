"""Nobody can make the proxy hoard: who does not take, or is not answered yet, keeps the other side waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from mitmproxy import http

from codex_network_proxy.addons.flow_control import PILE_LIMIT
from codex_network_proxy.addons.http2 import CLIENT_WINDOW, ORIGIN_WINDOW
from codex_network_proxy.addons.http_head import HEAD_LIMIT

from .engine_kit import HOOKED, Lab, OriginPeer, play
from .h2_kit import Http2Peer, fine, get, http2, http2_origin
from .http1_requests import get as plain_get
from .http1_requests import post
from .other_addons import Other

PIECE = 1 << 20
KERNEL = 16 << 20
"""What the sockets of one way may hold on this machine, and more."""

Send = Callable[[bytes], Awaitable[None]]


class Flood:
    """Sends for as long as the other side takes it. `stuck` is set when it has taken nothing for a while."""

    def __init__(self, send: Send, limit: int) -> None:
        self.sent = 0
        self._send = send
        self._limit = limit
        self._moved = asyncio.Event()

    async def run(self) -> None:
        while self.sent < self._limit:
            await self._send(bytes(PIECE))
            self.sent += PIECE
            self._moved.set()

    async def until_stuck(self) -> int:
        """How much went until no piece passed any more for half a second."""
        task = asyncio.create_task(self.run())
        while True:
            self._moved.clear()
            try:
                async with asyncio.timeout(0.5):
                    await self._moved.wait()
            except TimeoutError:
                break
            if task.done():
                break
        task.cancel()
        return self.sent


LIMIT = 256 << 20


def test_an_http2_client_that_does_not_read_slows_an_http1_origin(tmp_path: Path) -> None:
    found: list[int] = []

    async def flood(peer: OriginPeer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LIMIT)
        found.append(await Flood(peer.send, LIMIT).until_stuck())

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(flood, tls=[HOOKED])
        client = await http2(lab, origin.port, greedy=False)
        await client.start(get(origin.port))
        reading = asyncio.create_task(client.until(lambda: bool(found)))
        while not found:
            await asyncio.wait((reading,), timeout=0.05)
        reading.cancel()

    play(scenario, tmp_path)
    assert found[0] <= PILE_LIMIT + KERNEL


def test_and_an_http2_origin(tmp_path: Path) -> None:
    found: list[int] = []

    async def respond(side: Http2Peer, number: int) -> None:
        side.h2.send_headers(number, [(b":status", b"200")])
        found.append(await Flood(lambda data: side.data(number, data), LIMIT).until_stuck())

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(http2_origin(respond), tls=[HOOKED], alpn=["h2"])
        client = await http2(lab, origin.port, greedy=False)
        await client.start(get(origin.port))
        reading = asyncio.create_task(client.until(lambda: bool(found)))
        while not found:
            await asyncio.wait((reading,), timeout=0.05)
        reading.cancel()

    play(scenario, tmp_path)
    assert found[0] <= PILE_LIMIT + ORIGIN_WINDOW + KERNEL


def test_when_it_reads_again_everything_arrives(tmp_path: Path) -> None:
    size = 8 << 20

    async def respond(side: Http2Peer, number: int) -> None:
        side.h2.send_headers(number, [(b":status", b"200")])
        await side.data(number, bytes(size), end=True)

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(http2_origin(respond), tls=[HOOKED], alpn=["h2"])
        client = await http2(lab, origin.port, greedy=False)
        number = await client.start(get(origin.port))
        stream = client.streams[number]
        while not stream.ended:
            before = len(stream.body)
            assert await client.until(lambda: stream.ended or len(stream.body) > before)  # noqa: B023  # awaited within this round
            await client.acknowledge()
        assert len(stream.body) == size

    play(scenario, tmp_path)


def test_an_http2_origin_that_does_not_read_slows_an_http2_client(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(http2_origin(greedy=False), tls=[HOOKED], alpn=["h2"])
        client = await http2(lab, origin.port)
        number = await client.start(get(origin.port, method=b"POST"), end=False)
        sent = await Flood(lambda data: client.data(number, data), LIMIT).until_stuck()
        assert sent <= CLIENT_WINDOW + PILE_LIMIT + KERNEL

    play(scenario, tmp_path)


def test_an_http1_origin_that_does_not_read_slows_its_client(tmp_path: Path) -> None:
    async def deaf(peer: OriginPeer) -> None:
        await peer.head()
        await asyncio.Event().wait()

    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(deaf), await lab.client()
        await client.send(post(origin.port, b"content-length: %d" % LIMIT))
        assert await Flood(client.send, LIMIT).until_stuck() <= PILE_LIMIT + 2 * KERNEL

    play(scenario, tmp_path)


def held(lab: Lab) -> asyncio.Event:
    """From now on no request is judged before this is set."""
    gate = asyncio.Event()

    async def hold(flow: http.HTTPFlow) -> None:
        await gate.wait()

    lab.add(Other("requestheaders", hold), "codex-settings")
    return gate


def test_a_body_waits_outside_while_its_head_is_judged(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        held(lab)
        origin, client = await lab.origin(), await lab.client()
        await client.send(post(origin.port, b"content-length: %d" % LIMIT))
        assert await Flood(client.send, LIMIT).until_stuck() <= PILE_LIMIT + KERNEL
        assert not origin.requests

    play(scenario, tmp_path)


def test_the_body_of_a_stream_too_and_it_arrives_when_it_may(tmp_path: Path) -> None:
    size = 4 << 20

    async def scenario(lab: Lab) -> None:
        gate = held(lab)
        origin = await lab.origin(http2_origin(fine), tls=[HOOKED], alpn=["h2"])
        client = await http2(lab, origin.port)
        number = await client.start(get(origin.port, method=b"POST"), end=False)
        sending = asyncio.create_task(client.data(number, bytes(size), end=True))
        done, _ = await asyncio.wait((sending,), timeout=0.5)
        assert not done
        gate.set()
        await sending
        assert (await client.answer(number)).status == 200
        assert len(origin.requests[0].body) == size

    play(scenario, tmp_path)


def test_requests_wait_outside_while_the_first_is_judged(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        gate = held(lab)
        origin, client = await lab.origin(), await lab.client()
        one = plain_get(origin.port)
        many = one * (PIECE // len(one))
        assert await Flood(lambda data: client.send(many), LIMIT).until_stuck() <= HEAD_LIMIT + KERNEL
        gate.set()
        for _ in range(3):
            assert (await client.answer()).status == 200

    play(scenario, tmp_path)
