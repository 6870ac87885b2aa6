from __future__ import annotations

import socket
import threading

import pytest

from codex_network_proxy.addons import doorway
from codex_network_proxy.addons.front_door import DoorLimits
from tests.kit.raw import Client, connect, get
from tests.kit.tcp_origins import TcpOrigin, count_then_answer, echo_bytes
from tests.socks.sockets import stalling

from .running_door import PATIENCE, RunningDoor, open_tunnel, still_open


def test_a_client_too_many_is_told_so_and_the_next_fits_again() -> None:
    with RunningDoor(DoorLimits(connections=2)) as door, TcpOrigin(echo_bytes) as origin:
        with open_tunnel(door, origin) as tunnel, Client(door.address) as waiting:
            waiting.send(b"CONN")
            with Client(door.address) as client:
                client.send(connect("allowed.test:443"))
                answer = client.read()
                assert (answer.status, answer.text) == (503, "too many connections")
                assert answer.get("connection") == "close"
                assert client.ended()
            assert still_open(tunnel)
        door.wait_until_empty()
        with open_tunnel(door, origin) as tunnel:
            assert still_open(tunnel)


def test_far_too_many_clients_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorway, "TURNED_AWAY_AT_ONCE", 1)
    with RunningDoor(DoorLimits(connections=1, linger_seconds=PATIENCE)) as door, Client(door.address) as first:
        door.wait_until(lambda: door.door.taken == 1)
        with Client(door.address) as told, Client(door.address) as cut:
            assert told.read().status == 503
            assert cut.ended()
        assert first.ask(connect("blocked.test:443"), "CONNECT").status == 403


def test_handed_over_clients_count() -> None:
    with RunningDoor(DoorLimits(connections=1)) as door, Client(door.address) as first:
        first.send(get("http://a.test/"))
        handover = door.engine.next()
        with Client(door.address) as client:
            assert client.read().status == 503
            client.finish()
            assert client.ended()
        door.call(handover.done)
        door.wait_until_empty()
        with Client(door.address) as client:
            assert client.ask(connect("blocked.test:443"), "CONNECT").status == 403


def test_a_client_that_goes_away_during_the_decision_reaches_nobody() -> None:
    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin:
        with Client(door.address) as client:
            client.send(connect(f"slow.test:{origin.port}"))
            assert door.authority.waiting.wait(PATIENCE)
            _reset(client)
        door.wait_until_empty()
        door.settle_decision()
        door.call(lambda: None)
        assert origin.recorder.mark() == 0
        assert door.log == []


def _reset(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.sock.close()


@pytest.mark.parametrize("sent", [b"", b"CONN", b"BAD\r\n\r\n"], ids=["before a head", "in a head", "after the answer"])
def test_a_client_that_resets_leaves_nothing(sent: bytes) -> None:
    with RunningDoor(DoorLimits(linger_seconds=PATIENCE)) as door, Client(door.address) as client:
        client.send(sent)
        if sent.endswith(b"\n"):
            assert client.read().status == 400
        door.wait_until(lambda: door.door.taken == 1)
        _reset(client)
        door.wait_until_empty()
        assert door.log == []


class Full:
    """A socket without room for a whole answer."""

    def __init__(self, sock: socket.socket, room: int) -> None:
        self._sock, self._room = sock, room

    def send(self, data: bytes) -> int:
        if not self._room:
            raise BlockingIOError
        return self._room

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)


@pytest.mark.parametrize("room", [0, 10], ids=["no room", "room for a part"])
@pytest.mark.parametrize("request_bytes", [connect("blocked.test:443"), b"BAD\r\n\r\n"], ids=["block", "bad head"])
def test_a_client_that_does_not_read_its_answers_is_cut_off(room: int, request_bytes: bytes) -> None:
    with RunningDoor() as door, Client(door.address) as client:
        door.wait_until(lambda: door.door.taken == 1)
        (connection,) = door.doorway.connections
        connection.sock = Full(connection.sock, room)  # type: ignore[assignment]  # acts as a socket
        client.send(request_bytes)
        assert client.ended()
        door.wait_until_empty()
        assert door.log == []


def test_a_client_that_goes_away_during_the_dial_stops_it() -> None:
    with RunningDoor() as door, stalling() as port:
        with Client(door.address) as client:
            client.send(connect(f"allowed.test:{port}"))
            door.wait_until(lambda: bool(door.doorway.dialling))
            _reset(client)
        door.wait_until_empty()
        assert not door.doorway.dialling
        assert len(door.doorway.poller._watchers) == 1


def test_a_dial_takes_only_so_long() -> None:
    with RunningDoor(DoorLimits(dial_seconds=0.01)) as door, stalling() as port, Client(door.address) as client:
        answer = client.ask(connect(f"allowed.test:{port}"), "CONNECT")
        assert (answer.status, answer.text) == (502, "upstream failure: connection timed out")


def test_an_error_inside_costs_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with RunningDoor() as door:
        with monkeypatch.context() as patch:
            patch.setattr(door.authority, "decide", lambda request: None)
            with Client(door.address) as client:
                client.send(connect("allowed.test:443"))
                assert client.ended()
        door.wait_until_empty()
        assert door.log == ["a connection was closed after an internal error (TypeError)"]
        with Client(door.address) as client:
            assert client.ask(connect("blocked.test:443"), "CONNECT").status == 403


def test_an_error_after_a_late_decision_costs_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("made up")

    with RunningDoor() as door, Client(door.address) as client:
        client.send(connect("slow.test:443"))
        assert door.authority.waiting.wait(PATIENCE)
        monkeypatch.setattr(door.doorway.dialler, "dial", fail)
        door.settle_decision()
        assert client.ended()
        door.wait_until_empty()
        assert door.log == ["a connection was closed after an internal error (ValueError)"]


def test_an_error_at_the_end_of_a_dial_costs_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("made up")

    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin, Client(door.address) as client:
        monkeypatch.setattr(door.doorway.tunnels, "open", fail)
        client.send(connect(f"allowed.test:{origin.port}"))
        assert client.ended()
        door.wait_until_empty()
        origin.recorder.wait(lambda: any(c.closed for c in origin.recorder.connections), "the origin's end")


def test_many_clients_at_once_are_all_served() -> None:
    failures: list[BaseException] = []

    def visit(door: RunningDoor, origin: TcpOrigin) -> None:
        try:
            for _ in range(20):
                with open_tunnel(door, origin) as client:
                    client.send(bytes(1000))
                    client.finish()
                    assert client.stream.rest() == b"1000 bytes"
        except BaseException as error:
            failures.append(error)

    with RunningDoor() as door, TcpOrigin(count_then_answer) as origin:
        visitors = [threading.Thread(target=visit, args=(door, origin)) for _ in range(10)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join(PATIENCE)
        assert not failures
        door.wait_until_empty()
        assert not door.doorway.connections
        assert len(door.doorway.tunnels) == 0
