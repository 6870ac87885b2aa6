"""What a UDP association relays, and for whom."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest

from codex_network_proxy.socks import udp
from codex_network_proxy.socks.addressing import Target
from codex_network_proxy.socks.datagrams import Dropped, header_of
from codex_network_proxy.socks.udp import Association

from .association import LOCAL, FakeJudge, Relayed, port_of, receive_from, udp_socket
from .sockets import run, settled, tcp_pair
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


@scenario
async def test_a_relay_of_ours_is_nobodys_destination() -> None:
    async with Relayed() as relayed:
        other = _another(relayed)
        for address in (relayed.relay, other.address):
            for _ in range(2):
                relayed.send(*address, header_of(b"here.test", 9) + b"from inside")
        await relayed.dropped(Dropped.UNREACHABLE, 2)
        await settled()
        assert (other.destinations, other.dropped) == ([], {})
        other.close()


@scenario
async def test_who_sends_to_a_port_loses_it_when_a_relay_of_ours_opens_there() -> None:
    async with Relayed() as relayed:
        server, elsewhere = relayed.server(), relayed.server("127.0.0.2")
        port = port_of(server)
        for host in ("127.0.0.1", "::ffff:127.0.0.1"):
            relayed.send(host, port, b"x")
            await receive_from(server)
        relayed.send("127.0.0.2", port_of(elsewhere), b"x")
        await receive_from(elsewhere)
        server.close()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(udp, "bound", lambda local: udp_socket(local[0], port))
            other = _another(relayed)
        assert [one.target.port for one in relayed.association.destinations] == [port_of(elsewhere)]
        relayed.send("127.0.0.1", port, header_of(b"here.test", 9) + b"from inside")
        relayed.send("127.0.0.2", port_of(elsewhere), b"still open")
        assert (await receive_from(elsewhere))[0] == b"still open"
        assert (other.destinations, other.dropped) == ([], {})
        other.close()


def _another(relayed: Relayed) -> Association:
    """Another client's association on the same poller, whose client is silent. Close it."""
    control, inner = tcp_pair()
    relayed._sockets.append(control)
    found = Association(relayed.shared, inner, 0, FakeJudge())
    found.start(b"")
    return found


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
