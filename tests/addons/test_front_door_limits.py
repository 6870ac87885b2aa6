from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from codex_network_proxy.addons import door_tunnels, doorway
from codex_network_proxy.addons.front_door import DoorLimits, FrontDoor
from codex_network_proxy.policy.decision import Allowed
from tests.kit.raw import Client, connect, get
from tests.kit.tcp_origins import TcpOrigin, count_then_answer, echo_bytes

from .running_door import PATIENCE, FakeAuthority, FakeEngine, RunningDoor


def _tunnel(door: RunningDoor, origin: TcpOrigin, host: str = "allowed.test") -> Client:
    client = Client(door.address)
    assert client.ask(connect(f"{host}:{origin.port}"), "CONNECT").status == 200
    return client


def _ready(client: Client) -> bool:
    client.send(b"x")
    return client.stream.exactly(1) == b"x"


# -- how many ----------------------------------------------------------------------------------------------------------


def test_a_client_too_many_is_told_so_and_the_next_fits_again() -> None:
    with RunningDoor(DoorLimits(connections=2)) as door, TcpOrigin(echo_bytes) as origin:
        with _tunnel(door, origin) as tunnel, Client(door.address) as waiting:
            waiting.send(b"CONN")
            with Client(door.address) as client:
                client.send(connect("allowed.test:443"))
                answer = client.read()
                assert (answer.status, answer.text) == (503, "too many connections")
                assert answer.get("connection") == "close"
                assert client.ended()
            assert _ready(tunnel)
        door.wait_until_empty()
        with _tunnel(door, origin) as tunnel:
            assert _ready(tunnel)


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


# -- clients that go away ----------------------------------------------------------------------------------------------


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
        (connection,) = _doorway(door).connections
        connection.sock = Full(connection.sock, room)  # type: ignore[assignment]
        client.send(request_bytes)
        assert client.ended()
        door.wait_until_empty()
        assert door.log == []


def test_a_client_that_goes_away_during_the_dial_stops_it() -> None:
    with RunningDoor() as door, Stalled() as port:
        with Client(door.address) as client:
            client.send(connect(f"allowed.test:{port}"))
            door.wait_until(lambda: bool(_doorway(door).dialling))
            _reset(client)
        door.wait_until_empty()
        assert not _doorway(door).dialling
        assert len(_doorway(door).poller._watchers) == 1


class Stalled:
    """A port that answers no connection: its queue is full."""

    def __enter__(self) -> int:
        self._sockets = [socket.socket() for _ in range(5)]
        listener, *waiting = self._sockets
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        return int(listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.close()


def _doorway(door: RunningDoor) -> doorway.Doorway:
    running = door.door._doorway
    assert running is not None
    return running


def test_a_dial_takes_only_so_long() -> None:
    with RunningDoor(DoorLimits(dial_seconds=0.01)) as door, Stalled() as port, Client(door.address) as client:
        answer = client.ask(connect(f"allowed.test:{port}"), "CONNECT")
        assert (answer.status, answer.text) == (502, "upstream failure: connection timed out")


# -- a new policy ------------------------------------------------------------------------------------------------------


def _not_to(host: str) -> Callable[[Allowed], bool]:
    return lambda verdict: verdict.request.host != host


def test_a_new_policy_ends_the_tunnels_it_does_not_allow() -> None:
    with (
        RunningDoor() as door,
        TcpOrigin(echo_bytes) as origin,
        _tunnel(door, origin, "kept.test") as kept,
        _tunnel(door, origin, "cut.test") as cut,
    ):
        assert door.call(lambda: door.door.recheck(_not_to("cut.test"))) == 1
        assert cut.ended()
        assert _ready(kept)
        origin.recorder.wait(lambda: sum(c.closed for c in origin.recorder.connections) == 1, "the origin's end")
        assert door.call(lambda: door.door.recheck(_not_to("cut.test"))) == 0


def test_a_question_that_fails_ends_the_tunnel() -> None:
    def fail(verdict: Allowed) -> bool:
        raise ValueError("made up")

    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin, _tunnel(door, origin) as client:
        assert door.call(lambda: door.door.recheck(fail)) == 1
        assert client.ended()


def test_a_new_policy_ends_dials_under_way() -> None:
    with RunningDoor() as door, Stalled() as port, Client(door.address) as client:
        client.send(connect(f"cut.test:{port}"))
        door.wait_until(lambda: bool(_doorway(door).dialling))
        assert door.call(lambda: door.door.recheck(_not_to("other.test"))) == 0
        assert door.call(lambda: door.door.recheck(_not_to("cut.test"))) == 1
        assert client.ended()
        door.wait_until_empty()


def test_many_tunnels_are_cut_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_tunnels, "CUT_AT_ONCE", 2)
    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin:
        clients = [_tunnel(door, origin) for _ in range(5)]

        def recheck() -> tuple[int, int]:
            return door.door.recheck(lambda verdict: False), door.door.taken

        assert door.call(recheck) == (5, 3)
        for client in clients:
            assert client.ended()
            client.sock.close()
        door.wait_until_empty()


# -- start and close ---------------------------------------------------------------------------------------------------


def test_closing_ends_everything_that_was_not_handed_over() -> None:
    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin, Stalled() as port:
        clients = [_tunnel(door, origin), *(Client(door.address) for _ in range(5))]
        _, silent, partial, deciding, dialling, handed_over = clients
        partial.send(b"CONN")
        deciding.send(connect("slow.test:443"))
        dialling.send(connect(f"allowed.test:{port}"))
        handed_over.send(get("http://a.test/"))
        handover = door.engine.next()
        assert door.authority.waiting.wait(PATIENCE)
        door.wait_until(lambda: bool(_doorway(door).dialling) and door.door.taken == 6)
        door.call(door.door.close)
        for client in clients:
            if client is not handed_over:
                assert client.ended()
        handover.sock.send(b"still here")
        assert handed_over.stream.exactly(10) == b"still here"
        assert silent.address != partial.address
        with pytest.raises(ConnectionRefusedError):
            Client(door.address)
        door.call(door.door.close)
        for client in clients:
            client.sock.close()


def test_a_port_in_use_is_named_and_leaves_nothing_behind() -> None:
    with RunningDoor() as door:
        host, _, port = door.address.rpartition(":")
        with pytest.raises(OSError, match="is in use by another program"):
            FrontDoor(FakeAuthority(), FakeEngine()).start(host, int(port))


def test_a_door_may_have_several_listeners_and_open_again() -> None:
    with RunningDoor() as door:
        _, second = door.call(lambda: door.door.start("127.0.0.1", 0))
        for address in (door.address, f"127.0.0.1:{second}"):
            with Client(address) as client:
                assert client.ask(connect("blocked.test:443"), "CONNECT").status == 403
        door.call(door.door.close)
        assert door.call(lambda: door.door.recheck(lambda verdict: False)) == 0
        _, third = door.call(lambda: door.door.start("127.0.0.1", 0))
        with Client(f"127.0.0.1:{third}") as client:
            assert client.ask(connect("blocked.test:443"), "CONNECT").status == 403


# -- errors inside -----------------------------------------------------------------------------------------------------


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
        monkeypatch.setattr(_doorway(door).dialler, "dial", fail)
        door.settle_decision()
        assert client.ended()
        door.wait_until_empty()
        assert door.log == ["a connection was closed after an internal error (ValueError)"]


def test_an_error_at_the_end_of_a_dial_costs_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("made up")

    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin, Client(door.address) as client:
        monkeypatch.setattr(_doorway(door).tunnels, "open", fail)
        client.send(connect(f"allowed.test:{origin.port}"))
        assert client.ended()
        door.wait_until_empty()
        origin.recorder.wait(lambda: any(c.closed for c in origin.recorder.connections), "the origin's end")


def test_many_clients_at_once_are_all_served() -> None:
    failures: list[BaseException] = []

    def visit(door: RunningDoor, origin: TcpOrigin) -> None:
        try:
            for _ in range(20):
                with _tunnel(door, origin) as client:
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
        assert not _doorway(door).connections
        assert len(_doorway(door).tunnels) == 0
