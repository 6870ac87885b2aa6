from __future__ import annotations

import socket

from .sockets import receive, receive_all, reset, send, until
from .tunnel import Tunnel, scenario


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
async def test_an_error_inside_ends_the_tunnel_once() -> None:
    async with Tunnel() as tunnel:
        tunnel.relay.start(b"")
        client, upstream = tunnel.relay._client, tunnel.relay._upstream
        client.crashed(ValueError("made up"))
        upstream.crashed(ValueError("made up"))
        assert tunnel.closed == [tunnel.relay]


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
