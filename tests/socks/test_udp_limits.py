"""How much and how long a UDP association keeps, and its end with the TCP connection."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket

import pytest

from codex_network_proxy.socks import udp_sockets
from codex_network_proxy.socks.datagrams import Dropped
from codex_network_proxy.socks.udp import CONTROL_LIMIT, Association, Shared, UdpLimits

from .association import FakeJudge, Relayed, port_of, receive_from
from .sockets import new_poller, receive, receive_all, reset, send, tcp_pair, until
from .tunnel import scenario

# -- caps and time -----------------------------------------------------------------------------------------------------


@scenario
async def test_the_destination_that_was_not_used_for_longest_makes_room() -> None:
    async with Relayed(UdpLimits(destinations=2)) as relayed:
        first, second, third = (relayed.server() for _ in range(3))
        for server in (first, second, first, third):
            relayed.send("127.0.0.1", port_of(server), b"x")
            await receive_from(server)
        assert [one.target.port for one in relayed.judge.forgot] == [port_of(second)]
        assert relayed.shared.sockets == 2


@scenario
async def test_of_all_associations_the_destination_unused_for_longest_makes_room() -> None:
    async with Relayed(UdpLimits(sockets=2)) as relayed:
        first, second, third = (relayed.server() for _ in range(3))
        relayed.send(b"denied.test", 53, b"x")
        for server in (first, second, first, third, first):
            relayed.send("127.0.0.1", port_of(server), b"x")
            await receive_from(server)
        assert [one.target.port for one in relayed.judge.forgot] == [port_of(second)]
        assert relayed.shared.sockets == 2


@scenario
async def test_without_room_for_any_socket_a_destination_is_not_reached() -> None:
    async with Relayed(UdpLimits(sockets=0)) as relayed:
        for _ in range(2):
            relayed.send("127.0.0.1", 9, b"x")
        await relayed.dropped(Dropped.UNREACHABLE)


@scenario
async def test_half_of_the_descriptors_is_left_to_others() -> None:
    async with Relayed() as relayed:
        servers = [relayed.server() for _ in range(6)]
        with pytest.MonkeyPatch.context() as patch:
            half = _free_descriptor() + 2
            patch.setattr(resource, "getrlimit", lambda which: (2 * half, 4 * half))
            for server in servers:
                relayed.send("127.0.0.1", port_of(server), b"x")
                await receive_from(server)
            assert 1 <= relayed.shared.sockets <= 2
            assert len(relayed.judge.forgot) == 6 - relayed.shared.sockets


@scenario
async def test_where_others_have_half_of_the_descriptors_there_is_no_relay() -> None:
    async with Relayed() as relayed:
        near, far = tcp_pair()
        with pytest.MonkeyPatch.context() as patch:
            half = _free_descriptor()
            patch.setattr(resource, "getrlimit", lambda which: (2 * half, resource.RLIM_INFINITY))
            with pytest.raises(OSError, match="Too many open files"):
                Association(relayed.shared, near, 0, FakeJudge())
            relayed.send("127.0.0.1", 9, b"x")
            relayed.send("127.0.0.1", 9, b"x")
            await relayed.dropped(Dropped.UNREACHABLE)
        near.close()
        far.close()


def _free_descriptor() -> int:
    with socket.socket() as sock:
        return sock.fileno()


@scenario
async def test_an_unused_destination_is_forgotten_and_judged_anew() -> None:
    async with Relayed(UdpLimits(idle_seconds=0.01)) as relayed:
        server = relayed.server()
        for _ in range(2):
            relayed.send(b"here.test", port_of(server), b"x")
            await receive_from(server)
            await until(lambda: not relayed.association.destinations)
        assert len(relayed.judge.asked) == 2
        relayed.send(b"denied.test", 53, b"x")
        await until(lambda: len(relayed.judge.forgot) == 3)


@scenario
async def test_a_destination_that_could_not_be_reached_is_soon_judged_anew() -> None:
    async with Relayed(UdpLimits(retry_seconds=0.01)) as relayed:
        for _ in range(2):
            relayed.send(b"gone.test", 53, b"x")
            await until(lambda: bool(relayed.association.destinations))
            await until(lambda: not relayed.association.destinations)
        assert len(relayed.judge.asked) == 2


@scenario
async def test_an_association_that_nobody_uses_ends() -> None:
    async with Relayed(UdpLimits(idle_seconds=0.01)) as relayed:
        assert await receive_all(relayed.control) == b""
        assert relayed.judge.ended == [relayed.association]


@scenario
async def test_an_association_that_was_used_stays() -> None:
    async with Relayed(UdpLimits(idle_seconds=0.01)) as relayed:
        relayed.send(b"denied.test", 53, b"x")
        await until(lambda: len(relayed.judge.forgot) == 1)
        assert relayed.association.open
        assert not len(relayed.shared.silent)


@scenario
async def test_running_out_of_descriptors_ends_nothing() -> None:
    async with Relayed() as relayed:
        server = relayed.server()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "socket", _no_sockets)
            relayed.send("127.0.0.1", port_of(server), b"x")
            relayed.send("127.0.0.1", port_of(server), b"x")
            await relayed.dropped(Dropped.UNREACHABLE)
        (destination,) = relayed.association.destinations
        destination.forget()
        relayed.send("127.0.0.1", port_of(server), b"y")
        assert (await receive_from(server))[0] == b"y"


@scenario
async def test_a_socket_that_met_itself_is_no_way_there() -> None:
    async with Relayed() as relayed:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(udp_sockets, "met_itself", lambda sock, port: errno.ECONNREFUSED)
            relayed.send("127.0.0.1", 9, b"x")
            relayed.send("127.0.0.1", 9, b"x")
            await relayed.dropped(Dropped.UNREACHABLE)
        assert relayed.shared.sockets == 0


def _no_sockets(*_: object) -> socket.socket:
    raise OSError(errno.EMFILE, "Too many open files")


@scenario
async def test_each_datagram_keeps_its_destination_in_both_directions() -> None:
    async with Relayed() as relayed:
        server, kept, refused = relayed.server(), relayed.shared.idle, relayed.shared.denied
        relayed.send("127.0.0.1", port_of(server), b"x")
        _, sender = await receive_from(server)
        relayed.send(b"denied.test", 53, b"x")
        await until(lambda: len(refused) == 1)
        allowed, denied = relayed.association.destinations
        kept.discard(allowed)
        refused.discard(denied)
        server.sendto(b"x", sender)
        await until(lambda: list(kept._due) == [allowed])
        kept.discard(allowed)
        relayed.send("127.0.0.1", port_of(server), b"x")
        await until(lambda: list(kept._due) == [allowed])
        relayed.send(b"denied.test", 53, b"x")
        await until(lambda: list(refused._due) == [denied])


@scenario
async def test_a_destination_that_cannot_be_reached_is_not_kept_by_trying() -> None:
    async with Relayed() as relayed:
        relayed.send(b"gone.test", 53, b"x")
        relayed.send(b"gone.test", 53, b"x")
        await relayed.dropped(Dropped.UNREACHABLE)
        assert (len(relayed.shared.idle), len(relayed.shared.failed)) == (0, 1)


# -- the TCP connection ------------------------------------------------------------------------------------------------


@scenario
async def test_the_association_ends_with_its_tcp_connection() -> None:
    async with Relayed() as relayed:
        server = relayed.server()
        relayed.send("127.0.0.1", port_of(server), b"x")
        await receive_from(server)
        relayed.control.close()
        await until(lambda: not relayed.association.open)
        assert relayed.shared.sockets == 0


@scenario
async def test_the_association_ends_with_a_reset() -> None:
    async with Relayed() as relayed:
        reset(relayed.control)
        await until(lambda: not relayed.association.open)


@scenario
async def test_the_association_ends_when_the_client_says_that_it_is_done() -> None:
    async with Relayed() as relayed:
        relayed.control.shutdown(socket.SHUT_WR)
        assert await receive_all(relayed.control) == b""


@scenario
async def test_bytes_on_the_tcp_connection_are_ignored_up_to_a_bound() -> None:
    async with Relayed() as relayed:
        server = relayed.server()
        await send(relayed.control, bytes(CONTROL_LIMIT))
        relayed.send("127.0.0.1", port_of(server), b"x")
        assert (await receive_from(server))[0] == b"x"
        await send(relayed.control, b"x")
        await until(lambda: not relayed.association.open)


@scenario
async def test_a_client_that_is_gone_before_the_reply_leaves_nothing() -> None:
    relayed = Relayed()
    reset(relayed.control)
    relayed.association.start(b"reply")
    assert not relayed.association.open
    await relayed.__aexit__(None, None, None)


@scenario
async def test_without_a_relay_socket_the_connection_stays_the_callers() -> None:
    shared = Shared(asyncio.get_running_loop(), new_poller(), UdpLimits())
    near, far = tcp_pair()
    with near, far, pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", _no_sockets)
        with pytest.raises(OSError, match="Too many open files"):
            Association(shared, far, 0, FakeJudge())
        patch.undo()
        await send(far, b"still here")
        assert await receive(near) == b"still here"
    shared.close()
    shared.poller.close()
