from __future__ import annotations

from collections.abc import Callable

import pytest

from codex_network_proxy.addons import door_tunnels
from codex_network_proxy.addons.front_door import FrontDoor
from codex_network_proxy.policy.decision import Allowed
from tests.kit.raw import Client, connect, get
from tests.kit.tcp_origins import TcpOrigin, echo_bytes
from tests.socks.sockets import stalling

from .running_door import PATIENCE, FakeAuthority, FakeEngine, RunningDoor, open_tunnel, still_open


def _not_to(host: str) -> Callable[[Allowed], bool]:
    return lambda verdict: verdict.request.host != host


def test_a_new_policy_ends_the_tunnels_it_does_not_allow() -> None:
    with (
        RunningDoor() as door,
        TcpOrigin(echo_bytes) as origin,
        open_tunnel(door, origin, "kept.test") as kept,
        open_tunnel(door, origin, "cut.test") as cut,
    ):
        assert door.call(lambda: door.door.recheck(_not_to("cut.test"))) == 1
        assert cut.ended()
        assert still_open(kept)
        origin.recorder.wait(lambda: sum(c.closed for c in origin.recorder.connections) == 1, "the origin's end")
        assert door.call(lambda: door.door.recheck(_not_to("cut.test"))) == 0


def test_a_question_that_fails_ends_the_open_tunnel() -> None:
    def fail(verdict: Allowed) -> bool:
        raise ValueError("made up")

    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin, open_tunnel(door, origin) as client:
        assert door.call(lambda: door.door.recheck(fail)) == 1
        assert client.ended()


def test_a_new_policy_ends_dials_under_way() -> None:
    with RunningDoor() as door, stalling() as port, Client(door.address) as client:
        client.send(connect(f"cut.test:{port}"))
        door.wait_until(lambda: bool(door.doorway.dialling))
        assert door.call(lambda: door.door.recheck(_not_to("other.test"))) == 0
        assert door.call(lambda: door.door.recheck(_not_to("cut.test"))) == 1
        assert client.ended()
        door.wait_until_empty()


def test_a_decision_of_the_old_policy_that_nobody_has_acted_on_is_made_anew() -> None:
    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin, Client(door.address) as client:
        client.send(connect(f"slow.test:{origin.port}"))
        door.settle_decision(and_then=lambda: door.door.recheck(lambda verdict: False))
        assert [request.host for request in door.authority.asked] == ["slow.test", "slow.test"]
        assert not origin.recorder.connections
        door.settle_decision()
        assert client.read("CONNECT").status == 200
        assert still_open(client)


def test_many_tunnels_are_cut_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_tunnels, "CUT_AT_ONCE", 2)
    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin:
        clients = [open_tunnel(door, origin) for _ in range(5)]

        def recheck() -> tuple[int, int]:
            return door.door.recheck(lambda verdict: False), door.door.taken

        assert door.call(recheck) == (5, 3)
        for client in clients:
            assert client.ended()
            client.sock.close()
        door.wait_until_empty()


def test_closing_ends_everything_that_was_not_handed_over() -> None:
    with RunningDoor() as door, TcpOrigin(echo_bytes) as origin, stalling() as port:
        clients = [open_tunnel(door, origin), *(Client(door.address) for _ in range(5))]
        _, silent, partial, deciding, dialling, handed_over = clients
        partial.send(b"CONN")
        deciding.send(connect("slow.test:443"))
        dialling.send(connect(f"allowed.test:{port}"))
        handed_over.send(get("http://a.test/"))
        handover = door.engine.next()
        assert door.authority.waiting.wait(PATIENCE)
        door.wait_until(lambda: bool(door.doorway.dialling) and door.door.taken == 6)
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
