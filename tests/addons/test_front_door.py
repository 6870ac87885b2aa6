"""Tunnels through the HTTP door: what the relay carries, and what the engine is given."""

from __future__ import annotations

import threading

import pytest

from tests.kit.raw import Client, connect, get
from tests.kit.tcp_origins import BANNER, TcpOrigin, banner_first, count_then_answer

from .running_door import PATIENCE, REQUEST_ID, RunningDoor, at, connected

TOKEN = b"to be or not to be"


def test_an_allowed_tunnel_carries_bytes_both_ways(door: RunningDoor, echo: TcpOrigin) -> None:
    with Client(door.address) as client:
        connected(client, echo)
        client.send(TOKEN)
        assert client.stream.exactly(len(TOKEN)) == TOKEN
        peer = client.address
    door.wait_until_empty()
    (request,) = door.authority.asked
    assert (request.protocol, request.method, str(request.target)) == ("https_connect", "CONNECT", at(echo))
    assert request.client_address == peer
    assert door.log == []


def test_a_head_that_comes_byte_by_byte(door: RunningDoor, echo: TcpOrigin) -> None:
    with Client(door.address) as client:
        client.send(connect(at(echo)), step=1)
        assert client.read("CONNECT").status == 200
        client.send(TOKEN)
        assert client.stream.exactly(len(TOKEN)) == TOKEN


def test_what_comes_with_the_head_goes_into_the_tunnel(door: RunningDoor, echo: TcpOrigin) -> None:
    with Client(door.address) as client:
        connected(client, echo, early=TOKEN)
        assert client.stream.exactly(len(TOKEN)) == TOKEN


def test_what_comes_while_the_decision_is_pending_goes_into_the_tunnel(door: RunningDoor) -> None:
    with TcpOrigin(count_then_answer) as origin, Client(door.address) as client:
        client.send(connect(at(origin, "slow.test")) + TOKEN)
        assert door.authority.waiting.wait(PATIENCE)
        client.send(TOKEN)
        client.finish()
        door.settle_decision()
        assert client.read("CONNECT").status == 200
        assert client.stream.rest() == b"%d bytes" % (2 * len(TOKEN))
    door.wait_until_empty()


def test_a_client_that_sends_much_before_the_answer_has_to_wait(door: RunningDoor) -> None:
    size = 16 << 20
    with TcpOrigin(count_then_answer) as origin, Client(door.address) as client:
        client.send(connect(at(origin, "slow.test")))
        assert door.authority.waiting.wait(PATIENCE)

        def send_all() -> None:
            client.send(bytes(size))
            client.finish()

        sender = threading.Thread(target=send_all)
        sender.start()
        door.settle_decision()
        assert client.read("CONNECT").status == 200
        assert client.stream.rest() == b"%d bytes" % size
        sender.join(PATIENCE)


def test_an_origin_that_speaks_first(door: RunningDoor) -> None:
    with TcpOrigin(banner_first) as origin, Client(door.address) as client:
        connected(client, origin)
        assert client.stream.exactly(len(BANNER)) == BANNER


def test_the_observer_hears_of_each_tunnel(door: RunningDoor, echo: TcpOrigin) -> None:
    with Client(door.address) as client:
        connected(client, echo, early=TOKEN)
        assert client.stream.exactly(len(TOKEN)) == TOKEN
    door.wait_until_empty()
    (opened,), (closed,) = door.observer.opened, door.observer.closed
    assert (opened.peer, opened.ended, opened.verdict.request_id) == (f"127.0.0.1:{echo.port}", None, REQUEST_ID)
    assert (closed.bytes_up, closed.bytes_down) == (len(TOKEN), len(TOKEN))
    assert closed.ended is not None
    assert closed.ended >= closed.started == opened.started


def test_an_observer_that_fails_breaks_nothing(
    door: RunningDoor, echo: TcpOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(report: object) -> None:
        raise ValueError("made up")

    monkeypatch.setattr(door.observer, "tunnel_opened", fail)
    monkeypatch.setattr(door.observer, "tunnel_closed", fail)
    with Client(door.address) as client:
        connected(client, echo, early=TOKEN)
        assert client.stream.exactly(len(TOKEN)) == TOKEN
    door.wait_until_empty()


def test_ipv6_clients_are_named_with_brackets() -> None:
    with RunningDoor(host="::1") as door, Client(door.address) as client:
        assert client.ask(connect("blocked.test:443"), "CONNECT").status == 403
        assert door.authority.asked[0].client_address == f"[::1]:{client.sock.getsockname()[1]}"


def test_plain_http_goes_to_the_engine_whole(door: RunningDoor) -> None:
    raw = get("http://a.test/x") + b"body" + get("http://b.test/y")
    with Client(door.address) as client:
        client.send(raw)
        handover = door.engine.next()
        assert (handover.received, handover.verdict, handover.client_address) == (raw, None, client.address)
        assert not handover.sock.getblocking()
        handover.sock.send(b"from the engine")
        assert client.stream.exactly(15) == b"from the engine"
    assert door.authority.asked == []


def test_a_plain_request_after_a_refused_connect_goes_to_the_engine(door: RunningDoor) -> None:
    with Client(door.address) as client:
        assert client.ask(connect("blocked.test:443"), "CONNECT").status == 403
        client.send(get("http://a.test/"))
        assert door.engine.next().received == get("http://a.test/")


def test_a_tunnel_to_inspect_goes_to_the_engine_with_its_verdict(door: RunningDoor) -> None:
    raw = connect("inspected.test:443") + b"\x16\x03\x01"
    with Client(door.address) as client:
        client.send(raw)
        handover = door.engine.next()
        assert handover.received == raw
        assert handover.verdict is not None
        assert handover.verdict.request.host == "inspected.test"


def test_without_the_fast_path_every_good_head_goes_to_the_engine() -> None:
    with RunningDoor(fast_path=False) as door, Client(door.address) as client:
        client.send(connect("allowed.test:443"))
        handover = door.engine.next()
        assert (handover.received, handover.verdict) == (connect("allowed.test:443"), None)
        assert door.authority.asked == []


def test_a_handed_over_client_counts_until_the_engine_is_done(door: RunningDoor) -> None:
    with Client(door.address) as client:
        client.send(get("http://a.test/"))
        handover = door.engine.next()
        assert door.call(lambda: door.door.taken) == 1
        door.call(handover.done)
        door.call(handover.done)
        assert door.call(lambda: door.door.taken) == 0


def test_an_engine_that_fails_costs_one_connection(door: RunningDoor) -> None:
    door.engine.error = ValueError("a secret")
    with Client(door.address) as client:
        client.send(get("http://a.test/"))
        assert client.ended()
    door.wait_until_empty()
    assert door.log == ["a connection was closed after an internal error (ValueError)"]
    with Client(door.address) as client:
        assert client.ask(connect("blocked.test:443"), "CONNECT").status == 403
