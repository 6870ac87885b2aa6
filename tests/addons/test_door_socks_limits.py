from __future__ import annotations

import socket

import pytest

from codex_network_proxy.addons.front_door import DoorLimits
from tests.kit.raw import Client, connect
from tests.kit.socks_client import GRANTED, GREETING, SocksClient, socks_request
from tests.kit.tcp_origins import TcpOrigin, echo_bytes
from tests.socks.sockets import stalling

from .running_door import PATIENCE, RunningDoor, open_tunnel, still_open

REQUEST = socks_request(b"allowed.test", 443)


@pytest.mark.parametrize("sent", [b"\x05", GREETING, GREETING + REQUEST[:-1]], ids=["greeting", "between", "request"])
def test_a_handshake_that_takes_too_long_is_ended(sent: bytes) -> None:
    with RunningDoor(DoorLimits(head_seconds=0.01)) as door, SocksClient(door.open_socks()) as client:
        client.send(sent)
        assert client.stream.rest() == (GRANTED if len(sent) >= len(GREETING) else b"")
        client.sock.close()
        door.wait_until_empty()
        assert door.authority.asked == []


def test_the_handshake_has_one_limit_from_its_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    with RunningDoor() as door, SocksClient(door.open_socks()) as client:
        assert client.greet() == GRANTED
        (connection,) = door.doorway.connections
        began = door.call(lambda: door.doorway.head_due._due[connection])
        client.send(REQUEST[:4])
        assert door.call(lambda: door.doorway.head_due._due[connection]) == began
        assert not door.call(lambda: len(door.doorway.idle))


def test_a_client_that_says_nothing_is_closed_quietly() -> None:
    with RunningDoor(DoorLimits(idle_seconds=0.01)) as door, SocksClient(door.open_socks()) as client:
        assert client.stream.rest() == b""
        door.wait_until_empty()


def test_no_limit_of_the_handshake_ends_a_decision() -> None:
    limits = DoorLimits(head_seconds=0.01, idle_seconds=0.01)
    with RunningDoor(limits) as door, TcpOrigin(echo_bytes) as origin, SocksClient(door.open_socks()) as client:
        client.send(GREETING + socks_request(b"slow.test", origin.port))
        assert door.authority.waiting.wait(PATIENCE)
        assert not door.call(lambda: len(door.doorway.head_due) + len(door.doorway.idle))
        door.settle_decision()
        assert client.stream.exactly(2) == GRANTED
        assert client.reply().code == 0


def test_clients_of_both_ports_count_together_and_one_too_many_is_closed_cleanly() -> None:
    with RunningDoor(DoorLimits(connections=2)) as door, TcpOrigin(echo_bytes) as origin:
        door.open_socks()
        with open_tunnel(door, origin) as tunnel, SocksClient(door.socks) as first:
            assert first.greet() == GRANTED
            with SocksClient(door.socks) as client:
                client.send(GREETING + REQUEST)
                assert client.stream.rest() == b""
            with Client(door.address) as client:
                assert client.ask(connect("a.test:443")).status == 503
            assert still_open(tunnel)
        door.wait_until_empty()
        with SocksClient(door.socks) as client:
            assert client.command(b"allowed.test", origin.port).code == 0


def _reset(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.sock.close()


@pytest.mark.parametrize(
    ("sent", "end"),
    [(b"", 0), (b"\x05", 0), (GREETING, 2), (GREETING + b"\x05\x01\x00\x02", 12), (b"GET", 1)],
    ids=["before the greeting", "in the greeting", "after the greeting", "after the reply", "after an answer"],
)
@pytest.mark.parametrize("leave", [_reset, lambda client: client.sock.close()], ids=["with a reset", "quietly"])
def test_a_client_that_goes_away_leaves_nothing(sent: bytes, end: int, leave: object) -> None:
    with RunningDoor(DoorLimits(linger_seconds=PATIENCE)) as door, SocksClient(door.open_socks()) as client:
        client.send(sent)
        client.stream.exactly(end)
        door.wait_until(lambda: door.door.taken == 1)
        assert callable(leave)
        leave(client)
        door.wait_until_empty()
        assert door.log == []


def test_a_client_that_goes_away_during_the_dial_stops_it() -> None:
    with RunningDoor() as door, stalling() as port, SocksClient(door.open_socks()) as client:
        client.send(GREETING + socks_request(b"allowed.test", port))
        door.wait_until(lambda: bool(door.doorway.dialling))
        _reset(client)
        door.wait_until_empty()
        assert not door.doorway.dialling
        assert len(door.doorway.poller._watchers) == 2, "the two listeners"


def test_a_dial_takes_only_so_long_and_that_is_0x06() -> None:
    with (
        RunningDoor(DoorLimits(dial_seconds=0.01)) as door,
        stalling() as port,
        SocksClient(door.open_socks()) as client,
    ):
        assert client.command(b"allowed.test", port).code == 6
        assert client.ended()


def test_a_new_policy_ends_tunnels_and_dials_that_it_does_not_allow() -> None:
    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin, stalling() as port:
        door.open_socks()
        kept, cut, dialling = (SocksClient(door.socks) for _ in range(3))
        with kept, cut, dialling:
            assert kept.command(b"kept.test", origin.port).code == 0
            assert cut.command(b"cut.test", origin.port).code == 0
            dialling.send(GREETING + socks_request(b"cut.test", port))
            door.wait_until(lambda: bool(door.doorway.dialling))
            assert door.call(lambda: door.door.recheck(lambda verdict: verdict.request.host != "cut.test")) == 2
            assert cut.ended()
            assert dialling.stream.rest() == GRANTED
            assert still_open(kept)


def test_closing_ends_clients_in_every_phase() -> None:
    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin:
        door.open_socks()
        silent, greeted, deciding, open_ = (SocksClient(door.socks) for _ in range(4))
        with silent, greeted, deciding, open_:
            assert open_.command(b"allowed.test", origin.port).code == 0
            assert greeted.greet() == GRANTED
            assert deciding.greet() == GRANTED
            deciding.send(socks_request(b"slow.test", origin.port))
            assert door.authority.waiting.wait(PATIENCE)
            door.wait_until(lambda: door.door.taken == 4)
            door.call(door.door.close)
            for client in (silent, greeted, deciding, open_):
                assert client.ended()
            with pytest.raises(ConnectionRefusedError):
                Client(door.socks)
        assert door.log == []


def test_an_error_inside_costs_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with RunningDoor() as door:
        door.open_socks()
        with monkeypatch.context() as patch:
            patch.setattr(door.authority, "decide", lambda request: None)
            with SocksClient(door.socks) as client:
                client.send(GREETING + REQUEST)
                assert client.stream.rest() == GRANTED
        door.wait_until_empty()
        assert door.log == ["a connection was closed after an internal error (TypeError)"]
        with SocksClient(door.socks) as client:
            assert client.command(b"blocked.test", 443).code == 2
