from __future__ import annotations

import asyncio
import hashlib
import socket

import pytest

from codex_network_proxy.socks.poller import HANGUP, READ, READ_SIZE, WRITE

from .sockets import fill, receive, receive_all, reset, send, settled, until
from .tunnel import Tunnel, scenario


@scenario
async def test_what_the_client_sent_ahead_may_be_more_than_the_origin_takes_at_once() -> None:
    early = bytes(range(256)) * 2048
    async with Tunnel(buffer=4096) as tunnel:
        tunnel.relay.start(b"", early, client_ended=True)
        assert tunnel.relay._upstream.held
        assert await receive_all(tunnel.origin) == early
        assert not tunnel.closed
        tunnel.origin.close()
        assert await receive_all(tunnel.client) == b""
        await until(lambda: tunnel.relay.closed)


@scenario
async def test_an_origin_that_ends_while_bytes_are_held_for_it_still_gets_them() -> None:
    early = bytes(range(256)) * 2048
    async with Tunnel(buffer=4096) as tunnel:
        tunnel.relay.start(b"", early, client_ended=True)
        tunnel.origin.shutdown(socket.SHUT_WR)
        assert await receive_all(tunnel.client) == b""
        assert not tunnel.closed
        assert await receive_all(tunnel.origin) == early
        await until(lambda: tunnel.relay.closed)


@scenario
async def test_an_origin_that_resets_while_bytes_are_held_for_it_ends_the_tunnel() -> None:
    async with Tunnel(buffer=4096) as tunnel:
        tunnel.relay.start(b"", bytes(1 << 19), client_ended=True)
        assert tunnel.relay._upstream.held
        reset(tunnel.origin)
        await until(lambda: tunnel.relay.closed)


@scenario
async def test_spurious_events_do_nothing() -> None:
    async with Tunnel(buffer=4096) as tunnel:
        tunnel.relay.start(b"", bytes(1 << 19))
        for side in (tunnel.relay._client, tunnel.relay._upstream):
            side.ready(WRITE)
        tunnel.relay._client.ready(HANGUP)
        tunnel.relay._upstream.ready(READ)
        assert not tunnel.closed


@scenario
async def test_a_slow_receiver_stops_the_sender_and_little_is_held() -> None:
    async with Tunnel(buffer=4096) as tunnel:
        tunnel.relay.start(b"")
        sent = 0
        while more := fill(tunnel.client):
            sent += more
            await settled()
        assert tunnel.relay.bytes_up <= sent
        held = len(tunnel.relay._upstream.held)
        assert 0 < held <= READ_SIZE
        arrived = 0
        while arrived < sent:
            arrived += len(await receive(tunnel.origin))
        await until(lambda: not tunnel.relay._upstream.held)
        assert tunnel.relay.bytes_up == arrived == sent
        await send(tunnel.client, b"flows again")
        assert await receive(tunnel.origin) == b"flows again"


@scenario
async def test_a_stopped_direction_does_not_stop_the_other() -> None:
    async with Tunnel(buffer=4096) as tunnel:
        tunnel.relay.start(b"")
        while fill(tunnel.client):
            await settled()
        await send(tunnel.origin, b"still here")
        assert await receive(tunnel.client) == b"still here"


@scenario
async def test_the_end_of_a_stream_comes_after_everything_that_was_held() -> None:
    async with Tunnel(buffer=4096) as tunnel:
        tunnel.relay.start(b"")
        sent = 0
        while more := fill(tunnel.client):
            sent += more
            await settled()
        tunnel.client.shutdown(socket.SHUT_WR)
        await settled()
        assert len(await receive_all(tunnel.origin)) == sent
        await send(tunnel.origin, b"got it")
        tunnel.origin.close()
        assert await receive_all(tunnel.client) == b"got it"
        await until(lambda: tunnel.relay.closed)


@scenario
async def test_an_origin_that_hung_up_does_not_keep_the_loop_busy_while_its_client_is_slow() -> None:
    async with Tunnel(buffer=4096) as tunnel:
        tunnel.relay.start(b"")
        tunnel.client.shutdown(socket.SHUT_WR)
        assert await receive_all(tunnel.origin) == b""
        sent = 0
        while more := fill(tunnel.origin):
            sent += more
            await settled()
        tunnel.origin.shutdown(socket.SHUT_WR)
        await settled()
        assert tunnel.relay._client.held
        assert not list(tunnel.poller._backend.poll(0, 10))
        assert len(await receive_all(tunnel.client)) == sent
        await until(lambda: tunnel.relay.closed)


@scenario
async def test_a_large_transfer_arrives_whole_both_ways_at_once() -> None:
    data = bytes(range(256)) * (1 << 16)

    async def push(sock: socket.socket) -> None:
        await send(sock, data)
        sock.shutdown(socket.SHUT_WR)

    async with Tunnel() as tunnel:
        tunnel.relay.start(b"")
        _, _, up, down = await asyncio.gather(
            push(tunnel.client), push(tunnel.origin), receive_all(tunnel.origin), receive_all(tunnel.client)
        )
        digest = hashlib.sha256(data).digest()
        assert [hashlib.sha256(arrived).digest() for arrived in (up, down)] == [digest, digest]
        await until(lambda: tunnel.relay.closed)
        assert (tunnel.relay.bytes_up, tunnel.relay.bytes_down) == (len(data), len(data))


@scenario
async def test_a_cut_answer_does_not_look_complete() -> None:
    async with Tunnel(buffer=4096) as tunnel:
        tunnel.relay.start(b"")
        while fill(tunnel.origin):
            await settled()
        reset(tunnel.origin)
        await until(lambda: tunnel.relay.closed)
        with pytest.raises(ConnectionResetError):
            await receive_all(tunnel.client)
