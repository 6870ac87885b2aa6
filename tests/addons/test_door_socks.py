"""SOCKS5 tunnels through the door: what goes through, and the reply to each refusal."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from codex_network_proxy.addons.door_reach import Unreached
from codex_network_proxy.socks.addressing import IPAddress
from codex_network_proxy.socks.dialler import DialFailure
from tests.kit.socks_client import BIND, CONNECT, GRANTED, GREETING, SocksClient, SocksReply, socks_request
from tests.kit.tcp_origins import BANNER, TcpOrigin, banner_first, count_then_answer, echo_bytes

from .running_door import PATIENCE, REQUEST_ID, RunningDoor

TOKEN = b"to be or not to be"
NOWHERE = IPv4Address(0)


@pytest.fixture
def refusing() -> Iterator[int]:
    """A port that nobody else can take, and where nobody listens."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def failure(code: int) -> SocksReply:
    return SocksReply(code, NOWHERE, 0)


# -- tunnels ---------------------------------------------------------------------------------------------------------


def test_an_allowed_tunnel_carries_bytes_both_ways(socks_door: RunningDoor, echo: TcpOrigin) -> None:
    with SocksClient(socks_door.socks) as client:
        reply = client.command(b"Allowed.TEST.", echo.port)
        echo.recorder.wait(lambda: len(echo.recorder.connections) == 1, "the connection")
        (connection,) = echo.recorder.connections
        assert (reply.code, f"{reply.address}:{reply.port}") == (0, connection.peer)
        client.send(TOKEN)
        assert client.stream.exactly(len(TOKEN)) == TOKEN
        peer = client.address
    socks_door.wait_until_empty()
    (request,) = socks_door.authority.asked
    assert (request.protocol, request.method, str(request.target)) == ("socks5_tcp", None, f"allowed.test:{echo.port}")
    assert request.client_address == peer
    assert socks_door.log == []


@pytest.mark.parametrize(
    ("host", "target"),
    [
        pytest.param(IPv4Address("127.0.0.1"), "127.0.0.1", id="an IPv4 address"),
        pytest.param(IPv6Address("::ffff:127.0.0.1"), "127.0.0.1", id="an IPv4-mapped address is the IPv4 one"),
        pytest.param(b"127.1", "127.0.0.1", id="a name that is a literal"),
    ],
)
def test_an_address_is_judged_in_its_canonical_form(
    host: bytes | IPAddress, target: str, socks_door: RunningDoor, echo: TcpOrigin
) -> None:
    with SocksClient(socks_door.socks) as client:
        assert client.command(host, echo.port).code == 0
    assert socks_door.authority.asked[0].host == target


def test_ipv6_is_named_in_the_reply() -> None:
    with (
        RunningDoor(host="::1") as door,
        TcpOrigin(echo_bytes, "::1") as origin,
        SocksClient(door.open_socks()) as client,
    ):
        reply = client.command(IPv6Address("::1"), origin.port)
        assert (reply.code, reply.address) == (0, ip_address("::1"))
        assert door.authority.asked[0].client_address == f"[::1]:{client.sock.getsockname()[1]}"


@pytest.mark.parametrize("step", [None, 1], ids=["in one packet", "byte by byte"])
def test_what_comes_ahead_goes_into_the_tunnel(step: int | None, socks_door: RunningDoor, echo: TcpOrigin) -> None:
    with SocksClient(socks_door.socks) as client:
        client.send(GREETING + socks_request(b"allowed.test", echo.port) + TOKEN, step)
        assert client.stream.exactly(2) == GRANTED
        assert client.reply().code == 0
        assert client.stream.exactly(len(TOKEN)) == TOKEN


def test_what_comes_while_the_decision_is_pending_goes_into_the_tunnel(socks_door: RunningDoor) -> None:
    with TcpOrigin(count_then_answer) as origin, SocksClient(socks_door.socks) as client:
        assert client.greet() == GRANTED
        client.send(socks_request(b"slow.test", origin.port) + TOKEN)
        assert socks_door.authority.waiting.wait(PATIENCE)
        client.send(TOKEN)
        client.finish()
        socks_door.settle_decision()
        assert client.reply().code == 0
        assert client.stream.rest() == b"%d bytes" % (2 * len(TOKEN))
    socks_door.wait_until_empty()


def test_an_origin_that_speaks_first(socks_door: RunningDoor) -> None:
    with TcpOrigin(banner_first) as origin, SocksClient(socks_door.socks) as client:
        assert client.command(b"allowed.test", origin.port).code == 0
        assert client.stream.exactly(len(BANNER)) == BANNER


def test_the_observer_hears_of_each_tunnel(socks_door: RunningDoor, echo: TcpOrigin) -> None:
    with SocksClient(socks_door.socks) as client:
        assert client.command(b"allowed.test", echo.port).code == 0
        client.send(TOKEN)
        assert client.stream.exactly(len(TOKEN)) == TOKEN
    socks_door.wait_until_empty()
    (opened,), (closed,) = socks_door.observer.opened, socks_door.observer.closed
    assert (opened.verdict.request.protocol, opened.verdict.request_id) == ("socks5_tcp", REQUEST_ID)
    assert (closed.bytes_up, closed.bytes_down) == (len(TOKEN), len(TOKEN))


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "engine only"])
def test_a_tunnel_to_inspect_goes_to_the_engine_which_owes_the_reply(fast_path: bool) -> None:
    with RunningDoor(fast_path=fast_path) as door, SocksClient(door.open_socks()) as client:
        assert client.greet() == GRANTED
        client.send(socks_request(b"inspected.test", 443) + TOKEN)
        handover = door.engine.next()
        assert (handover.received, handover.client_address) == (TOKEN, client.address)
        assert handover.verdict is not None
        assert (handover.verdict.request.protocol, handover.verdict.inspect) == ("socks5_tcp", True)
        handover.sock.send(b"from the engine")
        assert client.stream.exactly(15) == b"from the engine"


def test_without_the_fast_path_every_allowed_tunnel_goes_to_the_engine() -> None:
    with RunningDoor(fast_path=False) as door, SocksClient(door.open_socks()) as client:
        assert client.greet() == GRANTED
        client.send(socks_request(b"allowed.test", 443))
        handover = door.engine.next()
        assert handover.verdict is not None
        assert (handover.received, handover.verdict.inspect) == (b"", False)
        with SocksClient(door.socks) as other:
            assert other.command(b"blocked.test", 443) == failure(2)


# -- every reply -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "command", "code", "asked"),
    [
        pytest.param(b"blocked.test", 443, CONNECT, 2, True, id="0x02 a block"),
        pytest.param(b"disabled.test", 443, CONNECT, 2, True, id="0x02 a proxy that is switched off"),
        pytest.param(b"raises.test", 443, CONNECT, 2, True, id="0x02 a decision that fails"),
        pytest.param(b"unresolved.test", 443, CONNECT, 4, True, id="0x04 a name that does not resolve"),
        pytest.param(b"unavailable.test", 443, CONNECT, 1, True, id="0x01 a broken configuration"),
        pytest.param(b"attacker\x00.google.com", 443, CONNECT, 2, False, id="0x02 NUL in the name"),
        pytest.param(b"a\r\n.test", 443, CONNECT, 2, False, id="0x02 a line end in the name"),
        pytest.param("bücher.test".encode(), 443, CONNECT, 2, False, id="0x02 a name in UTF-8"),
        pytest.param(b"", 443, CONNECT, 2, False, id="0x02 no name"),
        pytest.param(b"a" * 255, 443, CONNECT, 2, False, id="0x02 the longest name there can be"),
        pytest.param(b"allowed.test", 0, CONNECT, 2, False, id="0x02 port 0"),
        pytest.param(b"allowed.test", 443, BIND, 7, False, id="0x07 BIND"),
        pytest.param(b"allowed.test", 443, 9, 7, False, id="0x07 an unknown command"),
    ],
)
def test_a_refusal_has_its_code_and_ends_the_connection(
    host: bytes | IPAddress, port: int, command: int, code: int, asked: bool, socks_door: RunningDoor
) -> None:
    with SocksClient(socks_door.socks) as client:
        assert client.command(host, port, command) == failure(code)
        assert client.ended()
    socks_door.wait_until_empty()
    assert bool(socks_door.authority.asked) is asked


def test_a_refused_connection_is_0x05(socks_door: RunningDoor, refusing: int) -> None:
    with SocksClient(socks_door.socks) as client:
        assert client.command(b"allowed.test", refusing) == failure(5)
        assert client.ended()


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (DialFailure.NETWORK_UNREACHABLE, 3),
        (DialFailure.HOST_UNREACHABLE, 4),
        (DialFailure.REFUSED, 5),
        (DialFailure.TIMED_OUT, 6),
        (DialFailure.OTHER, 1),
    ],
)
def test_each_way_that_fails_has_its_code(
    kind: DialFailure, code: int, socks_door: RunningDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socks_door.doorway, "reach", lambda verdict, on_done: on_done(Unreached(kind, "made up")))
    with SocksClient(socks_door.socks) as client:
        assert client.command(b"allowed.test", 443) == failure(code)
        assert client.ended()


def test_an_unknown_address_type_is_0x08(socks_door: RunningDoor) -> None:
    with SocksClient(socks_door.socks) as client:
        assert client.greet() == GRANTED
        client.send(b"\x05\x01\x00\x02")
        assert client.reply() == failure(8)
        assert client.ended()


def test_a_decision_that_was_cancelled_is_0x02(socks_door: RunningDoor) -> None:
    with SocksClient(socks_door.socks) as client:
        assert client.greet() == GRANTED
        client.send(socks_request(b"slow.test", 443))
        assert socks_door.authority.waiting.wait(PATIENCE)
        assert socks_door.authority.answer
        socks_door.call(socks_door.authority.answer.cancel)
        assert client.reply() == failure(2)


def test_a_client_that_is_done_gets_its_refusal_and_the_end(socks_door: RunningDoor) -> None:
    with SocksClient(socks_door.socks) as client:
        assert client.greet() == GRANTED
        client.send(socks_request(b"slow-blocked.test", 443))
        assert socks_door.authority.waiting.wait(PATIENCE)
        client.finish()
        socks_door.settle_decision()
        assert client.reply() == failure(2)
        assert client.ended()
    socks_door.wait_until_empty()


def test_a_refused_client_that_goes_on_sending_still_gets_its_reply(socks_door: RunningDoor) -> None:
    with SocksClient(socks_door.socks) as client:
        client.send(GREETING + socks_request(b"blocked.test", 443) + bytes(200_000))
        assert client.stream.exactly(2) == GRANTED
        assert client.reply() == failure(2)
        client.finish()
        assert client.ended()
    assert len(socks_door.authority.asked) == 1
