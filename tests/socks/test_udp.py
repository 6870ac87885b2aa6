"""What a UDP association relays, for whom, and what it drops."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest

from codex_network_proxy.socks import udp_destination
from codex_network_proxy.socks.addressing import Target
from codex_network_proxy.socks.datagrams import Dropped, header_of
from codex_network_proxy.socks.udp import CONTROL_LIMIT, Association, Shared, UdpLimits

from .association import LOCAL, FakeJudge, Relayed, port_of, receive_from, udp_socket
from .sockets import new_poller, receive, receive_all, reset, run, send, settled, tcp_pair, until
from .tunnel import scenario

# -- both ways ---------------------------------------------------------------------------------------------------------


@scenario
async def test_datagrams_go_both_ways_and_are_counted() -> None:
    async with Relayed() as relayed:
        server = relayed.server()
        relayed.send("127.0.0.1", port_of(server), b"question")
        data, sender = await receive_from(server)
        assert data == b"question"
        server.sendto(b"answer!", sender)
        assert await relayed.answer() == (LOCAL, port_of(server), b"answer!")
        (destination,) = relayed.association.destinations
        assert (destination.bytes_up, destination.bytes_down) == (8, 7)
        assert destination.peer == f"127.0.0.1:{port_of(server)}"


@scenario
async def test_a_destination_is_judged_once() -> None:
    async with Relayed() as relayed:
        server = relayed.server()
        for number in range(5):
            relayed.send(b"here.test", port_of(server), b"%d" % number)
            assert (await receive_from(server))[0] == b"%d" % number
        assert [one.target for one in relayed.judge.asked] == [Target(b"here.test", port_of(server))]


@scenario
async def test_an_answer_to_a_name_tells_the_pinned_address() -> None:
    async with Relayed() as relayed:
        server = relayed.server()
        relayed.send(b"here.test", port_of(server), b"?")
        server.sendto(b"!", (await receive_from(server))[1])
        assert await relayed.answer() == (LOCAL, port_of(server), b"!")


@scenario
async def test_an_answer_to_an_address_tells_it_as_the_client_spelled_it() -> None:
    mapped = IPv6Address("::ffff:127.0.0.1")
    async with Relayed() as relayed:
        server = relayed.server()
        relayed.send(str(mapped), port_of(server), b"?")
        server.sendto(b"!", (await receive_from(server))[1])
        assert await relayed.answer() == (mapped, port_of(server), b"!")


@scenario
async def test_destinations_of_both_families_and_by_name_at_once() -> None:
    async with Relayed() as relayed:
        relayed.judge.names[b"six.test"] = [IPv6Address("::1")]
        four, six = relayed.server(), relayed.server("::1")
        relayed.send("127.0.0.1", port_of(four), b"1")
        relayed.send("::1", port_of(six), b"2")
        relayed.send(b"six.test", port_of(six), b"3")
        assert (await receive_from(four))[0] == b"1"
        first, second = await receive_from(six), await receive_from(six)
        assert (first[0], second[0]) == (b"2", b"3")
        assert first[1] != second[1], "each destination has a port of its own"
        six.sendto(b"!", second[1])
        assert await relayed.answer() == (IPv6Address("::1"), port_of(six), b"!")


@scenario
async def test_the_next_pinned_address_is_used_when_there_is_no_way_to_the_first() -> None:
    async with Relayed() as relayed:
        relayed.judge.names[b"two.test"] = [IPv4Address("255.255.255.255"), LOCAL]
        server = relayed.server()
        relayed.send(b"two.test", port_of(server), b"?")
        assert (await receive_from(server))[0] == b"?"


@pytest.mark.parametrize("size", [0, 1, 1200, 1500, 9000, 65_000])
def test_datagrams_of_every_size_arrive_whole(size: int) -> None:
    async def body() -> None:
        async with Relayed() as relayed:
            server = relayed.server()
            payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
            relayed.send("127.0.0.1", port_of(server), payload)
            data, sender = await receive_from(server)
            assert data == payload
            server.sendto(payload, sender)
            assert (await relayed.answer())[2] == payload

    run(body)


@scenario
async def test_an_answer_that_has_no_room_for_its_header_is_dropped() -> None:
    async with Relayed() as relayed:
        server = relayed.server()
        relayed.send("127.0.0.1", port_of(server), b"?")
        _, sender = await receive_from(server)
        server.sendto(bytes(65_507), sender)
        await relayed.dropped(Dropped.UNSENT)
        server.sendto(b"small", sender)
        assert (await relayed.answer())[2] == b"small"


@scenario
async def test_many_datagrams_in_one_go() -> None:
    async with Relayed() as relayed:
        server = relayed.server()
        for number in range(100):
            relayed.send("127.0.0.1", port_of(server), b"%d" % number)
        assert [(await receive_from(server))[0] for _ in range(100)] == [b"%d" % number for number in range(100)]


# -- who may speak -----------------------------------------------------------------------------------------------------


@scenario
async def test_the_first_port_wins() -> None:
    async with Relayed() as relayed:
        server, other = relayed.server(), relayed.server()
        relayed.send("127.0.0.1", port_of(server), b"first", other)
        assert (await receive_from(server))[0] == b"first"
        # The kernel turns the late one away before it is counted; it may tell its sender, or not.
        relayed.send("127.0.0.1", port_of(server), b"late")
        relayed.send("127.0.0.1", port_of(server), b"second", other)
        assert (await receive_from(server))[0] == b"second"


@scenario
async def test_what_others_had_sent_before_is_not_taken_for_the_clients() -> None:
    async with Relayed() as relayed:
        server, other = relayed.server(), relayed.server()
        for number in range(3):  # before the event loop sees any of them
            relayed.send("127.0.0.1", port_of(server), b"client %d" % number)
            relayed.send("127.0.0.1", port_of(server), b"other %d" % number, other)
        assert [(await receive_from(server))[0] for _ in range(3)] == [b"client 0", b"client 1", b"client 2"]
        await relayed.dropped(Dropped.FOREIGN, 3)


@scenario
async def test_another_address_than_the_tcp_clients_gets_nothing_through() -> None:
    async with Relayed() as relayed:
        server, foreign = relayed.server(), relayed.server("127.0.0.2")
        relayed.send("127.0.0.1", port_of(server), b"foreign", foreign)
        await relayed.dropped(Dropped.FOREIGN)
        relayed.send("127.0.0.1", port_of(server), b"mine")
        assert (await receive_from(server))[0] == b"mine"
        assert len(relayed.judge.asked) == 1


@scenario
async def test_a_port_that_was_announced_is_the_only_one() -> None:
    async with Relayed(claimed=lambda port: port) as relayed:
        server, other = relayed.server(), relayed.server()
        relayed.send("127.0.0.1", port_of(server), b"other", other)
        await relayed.dropped(Dropped.FOREIGN)
        relayed.send("127.0.0.1", port_of(server), b"mine")
        assert (await receive_from(server))[0] == b"mine"


@scenario
async def test_a_malformed_datagram_does_not_win_the_port() -> None:
    async with Relayed() as relayed:
        server, other = relayed.server(), relayed.server()
        relayed.send_raw(b"GET / HTTP/1.1", other)
        await relayed.dropped(Dropped.RESERVED)
        relayed.send("127.0.0.1", port_of(server), b"mine")
        assert (await receive_from(server))[0] == b"mine"


@scenario
async def test_only_the_pinned_address_and_port_may_answer() -> None:
    async with Relayed() as relayed:
        server, other = relayed.server(), relayed.server()
        same_port = relayed.server("127.0.0.2", port_of(server))
        relayed.send(b"here.test", port_of(server), b"?")
        _, sender = await receive_from(server)
        other.sendto(b"another port", sender)
        same_port.sendto(b"another address", sender)
        server.sendto(b"the answer", sender)
        assert await relayed.answer() == (LOCAL, port_of(server), b"the answer")
        assert relayed.association.destinations[0].bytes_down == len(b"the answer")


@scenario
async def test_a_destination_that_was_not_contacted_cannot_reach_the_client() -> None:
    async with Relayed() as relayed:
        server, stranger = relayed.server(), relayed.server()
        relayed.send("127.0.0.1", port_of(server), b"?")
        _, sender = await receive_from(server)
        stranger.sendto(header_of(LOCAL, 1) + b"to the relay itself", relayed.relay)
        stranger.sendto(b"to the outgoing socket", sender)
        server.sendto(b"!", sender)
        assert (await relayed.answer())[2] == b"!"


def _over_ipv6() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        near = socket.create_connection(listener.getsockname()[:2])
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def _over_both_families() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        near = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


@pytest.mark.parametrize(
    ("pair", "client", "relay"),
    [
        pytest.param(tcp_pair, "127.0.0.1", LOCAL, id="an IPv4 listener"),
        pytest.param(_over_ipv6, "::1", IPv6Address("::1"), id="an IPv6 listener"),
        pytest.param(_over_both_families, "127.0.0.1", LOCAL, id="IPv4 on a listener for both"),
    ],
)
def test_the_relay_is_where_the_client_connected_to(
    pair: Callable[[], tuple[socket.socket, socket.socket]], client: str, relay: IPv4Address | IPv6Address
) -> None:
    async def body() -> None:
        async with Relayed(pair=pair, client=client) as relayed:
            assert relayed.association.address[0] == str(relay)
            server = relayed.server()
            relayed.send("127.0.0.1", port_of(server), b"?")
            server.sendto(b"!", (await receive_from(server))[1])
            assert await relayed.answer() == (LOCAL, port_of(server), b"!")

    run(body)


# -- what is dropped ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"\0\0\x01\x01\x7f\0\0\x01\0\x35x", Dropped.FRAGMENT, id="a fragment"),
        pytest.param(b"\0\0\0\x01\x7f\0\0\x01\0", Dropped.TRUNCATED, id="half a header"),
        pytest.param(b"\0\0\0\x09\x7f\0\0\x01\0\x35x", Dropped.ADDRESS_TYPE, id="an unknown address type"),
        pytest.param(header_of(b"denied.test", 53) + b"x", Dropped.DENIED, id="a denied destination"),
        pytest.param(header_of(b"gone.test", 53) + b"x", Dropped.UNREACHABLE, id="a name without address"),
        pytest.param(header_of(IPv4Address("255.255.255.255"), 9) + b"x", Dropped.UNREACHABLE, id="broadcast"),
    ],
)
def test_a_datagram_that_is_dropped_ends_nothing(data: bytes, why: Dropped) -> None:
    async def body() -> None:
        async with Relayed() as relayed:
            server = relayed.server()
            for _ in range(3):
                relayed.send_raw(data)
            relayed.send("127.0.0.1", port_of(server), b"x")
            assert (await receive_from(server))[0] == b"x"
            # The very first one to a place is what the decision was about, and has waited for it.
            waited = why in (Dropped.DENIED, Dropped.UNREACHABLE)
            assert relayed.association.dropped == {why: 2 if waited else 3}
            assert len(relayed.judge.asked) == (2 if waited else 1)

    run(body)


@scenario
async def test_a_port_where_nobody_listens_ends_nothing() -> None:
    async with Relayed() as relayed:
        deaf, server = relayed.server(), relayed.server()
        deaf.connect(relayed.control.getsockname())  # the kernel refuses everybody else
        for _ in range(5):
            relayed.send("127.0.0.1", port_of(deaf), b"x")
            relayed.send("127.0.0.1", port_of(server), b"y")
            assert (await receive_from(server))[0] == b"y"
        (outgoing,) = (one._sock for one in relayed.association.destinations if one.target.port == port_of(deaf))
        assert outgoing is not None
        deaf.connect(outgoing.getsockname())
        relayed.send("127.0.0.1", port_of(deaf), b"now")
        assert (await receive_from(deaf))[0] == b"now"


@scenario
async def test_a_client_that_does_not_listen_ends_nothing() -> None:
    async with Relayed() as relayed:
        server = relayed.server()
        relayed.send("127.0.0.1", port_of(server), b"?")
        _, sender = await receive_from(server)
        relayed.client.connect(server.getsockname())  # the kernel refuses the relay
        for _ in range(3):
            server.sendto(b"!", sender)
            await settled()
        relayed.client.connect(relayed.relay)
        server.sendto(b"now", sender)
        assert (await relayed.answer())[2] == b"now"


def test_the_refusal_of_one_datagram_does_not_cost_the_next() -> None:
    with udp_socket() as near, udp_socket() as far, udp_socket() as other:
        near.connect(far.getsockname())
        far.connect(other.getsockname())  # the kernel refuses everybody else
        assert udp_destination.send(near, b"refused")
        far.connect(near.getsockname())
        assert udp_destination.send(near, b"now")
        assert far.recv(100) == b"now"


@scenario
async def test_an_error_of_who_decides_ends_the_association() -> None:
    async with Relayed() as relayed:
        relayed.send(b"broken.test", 53, b"x")
        assert await receive_all(relayed.control) == b""
        assert [str(error) for error in relayed.errors] == ["made up"]
        relayed.errors.clear()


# -- while a decision is under way -------------------------------------------------------------------------------------


@scenario
async def test_what_comes_before_the_decision_is_sent_after_it() -> None:
    async with Relayed() as relayed:
        server = relayed.server()
        for number in range(3):
            relayed.send(b"later.test", port_of(server), b"%d" % number)
        await until(lambda: relayed.shared.held == 3)
        assert [one.judging for one in relayed.judge.asked] == [True]
        assert relayed.judge.asked[0].peer == "unknown"
        assert relayed.judge.asked[0].allow([LOCAL])
        assert [(await receive_from(server))[0] for _ in range(3)] == [b"0", b"1", b"2"]
        assert relayed.shared.held == 0


@scenario
async def test_the_oldest_makes_room_while_a_decision_is_under_way() -> None:
    async with Relayed(UdpLimits(held=2)) as relayed:
        server = relayed.server()
        for number in range(4):
            relayed.send(b"later.test", port_of(server), b"%d" % number)
        await relayed.dropped(Dropped.WAITING, 2)
        relayed.judge.asked[0].allow([LOCAL])
        assert [(await receive_from(server))[0] for _ in range(2)] == [b"2", b"3"]


@scenario
async def test_what_waits_has_a_bound_over_all_destinations() -> None:
    async with Relayed(UdpLimits(held_bytes=10)) as relayed:
        relayed.send(b"later-1.test", 53, b"12345678")
        relayed.send(b"later-2.test", 53, b"123")
        await relayed.dropped(Dropped.WAITING)
        assert relayed.shared.held == 8


@scenario
async def test_what_waited_for_a_denial_is_gone() -> None:
    async with Relayed() as relayed:
        relayed.send(b"later.test", 53, b"x")
        await until(lambda: bool(relayed.judge.asked))
        relayed.judge.asked[0].deny()
        assert (relayed.shared.held, relayed.association.judging) == (0, 0)
        relayed.send(b"later.test", 53, b"x")
        await relayed.dropped(Dropped.DENIED)


@scenario
async def test_a_decision_that_comes_too_late_opens_nothing() -> None:
    async with Relayed() as relayed:
        for number in range(3):
            relayed.send(b"later-%d.test" % number, 53, b"x")
        await until(lambda: len(relayed.judge.asked) == 3)
        first, second, third = relayed.judge.asked
        relayed.association.close()
        assert not first.allow([LOCAL])
        second.deny()
        third.fail()
        assert relayed.shared.sockets == 0
        assert (len(relayed.shared.idle), len(relayed.shared.failed)) == (0, 0)


@scenario
async def test_decisions_under_way_have_a_bound_and_are_not_pushed_out() -> None:
    async with Relayed(UdpLimits(judging=2, destinations=2)) as relayed:
        for number in range(3):
            relayed.send(b"later-%d.test" % number, 53, b"x")
        await relayed.dropped(Dropped.WAITING)
        relayed.judge.asked[0].deny()
        relayed.send(b"later-3.test", 53, b"x")
        await until(lambda: len(relayed.judge.asked) == 3)
        assert [one.target.host for one in relayed.judge.forgot] == [b"later-0.test"], "what is decided makes room"


@scenario
async def test_without_room_for_another_destination_its_datagrams_are_dropped() -> None:
    async with Relayed(UdpLimits(judging=2, destinations=1)) as relayed:
        relayed.send(b"later-1.test", 53, b"x")
        relayed.send(b"later-2.test", 53, b"x")
        await relayed.dropped(Dropped.CROWDED)


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
async def test_all_associations_together_have_so_many_sockets() -> None:
    async with Relayed(UdpLimits(sockets=1)) as relayed:
        first, second = relayed.server(), relayed.server()
        for server in (first, second, second):
            relayed.send("127.0.0.1", port_of(server), b"x")
        await relayed.dropped(Dropped.UNREACHABLE)
        relayed.send("127.0.0.1", port_of(first), b"y")
        assert [(await receive_from(first))[0] for _ in range(2)] == [b"x", b"y"]


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
            patch.setattr(udp_destination, "met_itself", lambda sock: errno.ECONNREFUSED)
            relayed.send("127.0.0.1", 9, b"x")
            relayed.send("127.0.0.1", 9, b"x")
            await relayed.dropped(Dropped.UNREACHABLE)
        assert relayed.shared.sockets == 0


def _no_sockets(*_: object) -> socket.socket:
    raise OSError(errno.EMFILE, "Too many open files")


@scenario
async def test_each_datagram_keeps_its_destination_in_both_directions() -> None:
    async with Relayed() as relayed:
        server, kept = relayed.server(), relayed.shared.idle
        relayed.send("127.0.0.1", port_of(server), b"x")
        _, sender = await receive_from(server)
        relayed.send(b"denied.test", 53, b"x")
        await until(lambda: len(kept) == 2)
        allowed, denied = relayed.association.destinations
        kept.discard(allowed)
        kept.discard(denied)
        server.sendto(b"x", sender)
        await until(lambda: list(kept._due) == [allowed])
        kept.discard(allowed)
        relayed.send("127.0.0.1", port_of(server), b"x")
        await until(lambda: list(kept._due) == [allowed])
        relayed.send(b"denied.test", 53, b"x")
        await until(lambda: list(kept._due) == [allowed, denied])


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
