"""What a UDP association drops without ending, and what waits while a decision is under way."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from codex_network_proxy.socks import udp_destination
from codex_network_proxy.socks.datagrams import Dropped, header_of
from codex_network_proxy.socks.udp import UdpLimits

from .association import LOCAL, Relayed, port_of, receive_from, udp_socket
from .sockets import receive_all, run, settled, until
from .tunnel import scenario

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
