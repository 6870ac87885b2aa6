from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Callable, Coroutine

import pytest

from codex_network_proxy.socks.poller import HANGUP, READ, READ_SIZE, WRITE, Poller
from codex_network_proxy.socks.relay import Relay

from .sockets import fill, new_poller, receive, receive_all, reset, run, send, settled, tcp_pair, until


class Tunnel:
    """A relay between two connections; the test holds the outer ends."""

    def __init__(self, buffer: int | None = None) -> None:
        self.errors: list[Exception] = []
        self.poller: Poller = new_poller(self.errors)
        self.client, inner_client = tcp_pair(buffer)
        self.origin, inner_origin = tcp_pair(buffer)
        self.inner = (inner_client, inner_origin)
        self.closed: list[Relay] = []
        self.relay = Relay(self.poller, inner_client, inner_origin, self.closed.append)

    async def __aenter__(self) -> Tunnel:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.relay.close()
        self.poller.close()
        self.client.close()
        self.origin.close()
        assert not self.errors
        assert self.closed == [self.relay]
        assert [sock.fileno() for sock in self.inner] == [-1, -1]


Scenario = Callable[[], Coroutine[None, None, None]]


def scenario(body: Scenario) -> Callable[[], None]:
    """Lets pytest call an async test body."""

    def test() -> None:
        run(body)

    test.__name__ = body.__name__
    return test


@scenario
async def test_bytes_go_both_ways_and_are_counted() -> None:
    async with Tunnel() as tunnel:
        tunnel.relay.start(b"")
        await send(tunnel.client, b"question")
        assert await receive(tunnel.origin) == b"question"
        await send(tunnel.origin, b"answer!")
        assert await receive(tunnel.client) == b"answer!"
        assert (tunnel.relay.bytes_up, tunnel.relay.bytes_down) == (8, 7)


@scenario
async def test_the_reply_and_what_the_client_sent_ahead_come_first() -> None:
    async with Tunnel() as tunnel:
        tunnel.relay.start(b"200\r\n", b"early ")
        await send(tunnel.client, b"late")
        assert await receive(tunnel.client) == b"200\r\n"
        await until(lambda: tunnel.relay.bytes_up == 10)
        assert await receive(tunnel.origin) == b"early late"
        assert tunnel.relay.bytes_down == 0


@scenario
async def test_a_client_that_is_done_still_gets_its_answer() -> None:
    async with Tunnel() as tunnel:
        tunnel.relay.start(b"")
        await send(tunnel.client, b"all of it")
        tunnel.client.shutdown(socket.SHUT_WR)
        assert await receive_all(tunnel.origin) == b"all of it"
        assert not tunnel.closed
        await send(tunnel.origin, b"the answer")
        tunnel.origin.close()
        assert await receive_all(tunnel.client) == b"the answer"
        await until(lambda: tunnel.relay.closed)


@scenario
async def test_an_origin_that_is_done_still_hears_the_client() -> None:
    async with Tunnel() as tunnel:
        tunnel.relay.start(b"")
        tunnel.origin.shutdown(socket.SHUT_WR)
        assert await receive_all(tunnel.client) == b""
        assert not tunnel.closed
        await send(tunnel.client, b"more")
        tunnel.client.close()
        assert await receive_all(tunnel.origin) == b"more"
        await until(lambda: tunnel.relay.closed)


@scenario
async def test_a_client_that_ended_before_the_start_ends_the_way_up() -> None:
    async with Tunnel() as tunnel:
        tunnel.relay.start(b"", b"all", client_ended=True)
        assert await receive_all(tunnel.origin) == b"all"
        await send(tunnel.origin, b"ok")
        assert await receive(tunnel.client) == b"ok"


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
async def test_an_error_inside_ends_the_tunnel_once() -> None:
    async with Tunnel() as tunnel:
        tunnel.relay.start(b"")
        client, upstream = tunnel.relay._client, tunnel.relay._upstream
        client.crashed(ValueError("made up"))
        upstream.crashed(ValueError("made up"))
        assert tunnel.closed == [tunnel.relay]


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
async def test_a_reset_from_the_client_closes_both() -> None:
    async with Tunnel() as tunnel:
        tunnel.relay.start(b"")
        reset(tunnel.client)
        assert await receive_all(tunnel.origin) == b""
        assert tunnel.relay.closed


@scenario
async def test_a_reset_from_the_origin_closes_both() -> None:
    async with Tunnel() as tunnel:
        tunnel.relay.start(b"")
        await send(tunnel.origin, b"so far")
        assert await receive(tunnel.client) == b"so far"
        reset(tunnel.origin)
        assert await receive_all(tunnel.client) == b""
        assert tunnel.relay.closed


@scenario
async def test_a_reset_after_the_client_ended_closes_both() -> None:
    async with Tunnel() as tunnel:
        tunnel.relay.start(b"")
        tunnel.client.shutdown(socket.SHUT_WR)
        assert await receive_all(tunnel.origin) == b""
        reset(tunnel.client)
        await until(lambda: tunnel.relay.closed)


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


@scenario
async def test_an_origin_that_is_gone_before_the_start_ends_the_tunnel() -> None:
    async with Tunnel() as tunnel:
        reset(tunnel.origin)
        tunnel.relay.start(b"200\r\n", b"early")
        assert await receive_all(tunnel.client) == b"200\r\n"
        await until(lambda: tunnel.relay.closed)


@scenario
async def test_closing_twice_reports_once() -> None:
    async with Tunnel() as tunnel:
        tunnel.relay.start(b"")
        tunnel.relay.close()
        tunnel.relay.close()
        assert tunnel.closed == [tunnel.relay]
        assert await receive_all(tunnel.client) == b""
