"""A tunnel carries bytes: all of them, in both directions, whoever speaks first, and nowhere else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.kit.answers import check_text_block
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, connect, get
from tests.kit.server import RecordingStream
from tests.kit.socks_client import GRANTED, GREETING, SocksClient, socks_request, socks_tunnel
from tests.kit.tcp_origins import (
    BANNER,
    TcpOrigin,
    answer_then_listen,
    banner_first,
    count_then_answer,
    echo_bytes,
    talk_on,
)
from tests.socks.sockets import reset


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


def connect_tunnel(proxy: ProxyProcess, host: str, port: int) -> Client:
    client = Client(proxy.http)
    answer = client.ask(connect(f"{host}:{port}"), "CONNECT")
    assert answer.status == 200, answer
    assert answer.get("content-length") is None, "a granted CONNECT has no body (RFC 9110 9.3.6)"
    assert answer.get("transfer-encoding") is None
    return client


Tunnel = Callable[[ProxyProcess, int], Client]


@pytest.fixture(params=[connect_tunnel, socks_tunnel], ids=["connect", "socks"])
def tunnel(request: pytest.FixtureRequest) -> Tunnel:
    """Makes a tunnel to a port of an allowed host, by each door that has tunnels."""
    opener: Callable[[ProxyProcess, str, int], Client] = request.param
    return lambda proxy, port: opener(proxy, "allowed.test", port)


def test_a_server_that_speaks_first(proxy: ProxyProcess, tunnel: Tunnel) -> None:
    with TcpOrigin(banner_first) as server, tunnel(proxy, server.port) as client:
        assert client.stream.exactly(len(BANNER)) == BANNER
        client.send(b"EHLO client\r\n")
        assert client.stream.exactly(13) == b"EHLO client\r\n"


def test_bytes_come_back_unchanged_both_ways_at_once(proxy: ProxyProcess, tunnel: Tunnel) -> None:
    data = os.urandom(8 << 20)
    with TcpOrigin(echo_bytes) as server, tunnel(proxy, server.port) as client:
        sender = threading.Thread(target=client.send, args=(data,))
        sender.start()
        assert client.stream.exactly(len(data)) == data
        sender.join(10)


def test_the_client_may_finish_first(proxy: ProxyProcess, tunnel: Tunnel) -> None:
    with TcpOrigin(count_then_answer) as server, tunnel(proxy, server.port) as client:
        client.send(bytes(100_000))
        client.finish()
        assert client.stream.rest() == b"100000 bytes"


def test_the_server_may_finish_first(proxy: ProxyProcess, tunnel: Tunnel) -> None:
    with TcpOrigin(answer_then_listen) as server, tunnel(proxy, server.port) as client:
        assert client.stream.rest() == b"all said"
        client.send(b"still here")
        client.finish()
        recorder = server.recorder
        recorder.wait(lambda: b"still here" in bytes(recorder.connections[0].received), "what came after")


def test_a_client_that_vanishes_ends_the_far_side(proxy: ProxyProcess, tunnel: Tunnel) -> None:
    with TcpOrigin(echo_bytes) as server:
        with tunnel(proxy, server.port) as client:
            client.send(b"x")
            assert client.stream.exactly(1) == b"x"
        server.recorder.wait(lambda: server.recorder.connections[0].closed, "the origin's connection closed")


@pytest.mark.parametrize("first", [False, True], ids=["at once", "after its own last byte"])
def test_a_client_that_resets_ends_an_origin_that_never_stops(proxy: ProxyProcess, tunnel: Tunnel, first: bool) -> None:
    with TcpOrigin(talk_on) as server:
        client = tunnel(proxy, server.port)
        client.stream.exactly(1 << 16)
        if first:
            client.finish()
            client.stream.exactly(1 << 20)
        reset(client.sock)
        server.recorder.wait(lambda: server.recorder.connections[0].closed, "the origin's connection closed")


def test_an_origin_that_vanishes_ends_the_near_side(proxy: ProxyProcess, tunnel: Tunnel) -> None:
    with TcpOrigin(lambda stream: None) as server, tunnel(proxy, server.port) as client:
        assert client.ended()


def test_d08_bytes_behind_the_head_are_kept(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        client.send(connect(f"allowed.test:{origin.port}") + b"GET /t HTTP/1.1\r\nHost: inner\r\n\r\n")
        assert client.read("CONNECT").status == 200
        assert client.read().text == "ok from shared\n"


def test_a_client_may_say_everything_at_once_and_be_done(proxy: ProxyProcess) -> None:
    """Request, content and end in one go, before anybody has dialled."""
    with TcpOrigin(count_then_answer) as server:
        asked = socks_request(b"allowed.test", server.port)
        for address, head in ((proxy.http, connect(f"allowed.test:{server.port}")), (proxy.socks, GREETING + asked)):
            with Client(address) as client:
                client.send(head + bytes(100_000))
                client.finish()
                assert client.stream.rest().endswith(b"100000 bytes")


def test_d08_bytes_behind_a_refused_request_of_socks_reach_nobody(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    mark = origin.recorder.mark()
    with SocksClient(proxy.socks) as client:
        client.send(GREETING + socks_request(b"denied.test", origin.port) + b"\x16\x03\x01 secret bytes for the origin")
        assert client.stream.exactly(2) == GRANTED
        assert client.reply().code == 2
        assert client.ended()
    assert not origin.recorder.since(mark)


def test_d08_bytes_behind_a_refused_head_reach_nobody(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    mark = origin.recorder.mark()
    with Client(proxy.http) as client:
        client.send(connect(f"denied.test:{origin.port}") + b"\x16\x03\x01 secret bytes for the origin\r\n\r\n")
        check_text_block(client.read("CONNECT"), "denied")
        assert client.ended() or client.read().status == 400
    assert not origin.recorder.since(mark)


def test_d04_the_target_counts_and_not_the_host_field(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    mark = origin.recorder.mark()
    head = b"CONNECT evil.test:%d HTTP/1.1\r\nHost: allowed.test:%d\r\n\r\n" % (origin.port, origin.port)
    with Client(proxy.http) as client:
        answer = client.ask(head, "CONNECT")
        assert answer.status in (400, 403), answer
    assert not origin.recorder.since(mark)


INNER: list[Callable[[int], bytes]] = [
    lambda port: connect(f"evil.test:{port}"),
    lambda port: get(f"http://evil.test:{port}/t"),
    lambda port: b"CONNECT denied.test:%d HTTP/1.1\r\n\r\n" % port,
]


@pytest.mark.parametrize("inner", INNER, ids=["D05 CONNECT", "D07 GET in absolute form", "D05 CONNECT without Host"])
def test_what_is_inside_a_tunnel_goes_to_its_end_only(
    inner: Callable[[int], bytes], proxy: ProxyProcess, origin: HttpOrigin, tunnel: Tunnel
) -> None:
    mark, seen = origin.recorder.mark(), len(proxy.world.dials())
    received: list[bytes] = []

    def keep(stream: RecordingStream) -> None:
        received.append(stream.until(b"\r\n\r\n"))
        stream.sock.sendall(b"seen")

    with TcpOrigin(keep) as server, tunnel(proxy, server.port) as client:
        client.send(inner(origin.port))
        assert client.stream.exactly(4) == b"seen"
        assert {port for _, port in proxy.world.dials()[seen:]} == {server.port}
    assert received == [inner(origin.port)]
    assert not origin.recorder.since(mark)


def test_d09_a_relay_in_between_changes_nothing(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    def relay(stream: RecordingStream) -> None:
        with Client(proxy.http) as onward:
            onward.send(stream.until(b"\r\n\r\n"))
            while data := onward.stream.some():
                stream.sock.sendall(data)

    with TcpOrigin(relay) as server, Client(f"127.0.0.1:{server.port}") as client:
        check_text_block(client.ask(connect(f"evil.test:{origin.port}"), "CONNECT"), "not_allowed")


def test_a_refused_dial_is_told_before_the_tunnel_opens(proxy: ProxyProcess) -> None:
    with TcpOrigin(echo_bytes) as server:
        port = server.port
    with Client(proxy.http) as client:
        answer = client.ask(connect(f"allowed.test:{port}"), "CONNECT")
        assert answer.status == 502, answer
        assert answer.text.startswith("upstream failure: "), answer
        assert answer.get("x-proxy-error") is None


def test_the_next_address_is_tried_when_one_refuses(fleet: Fleet, fast_path: bool, origin: HttpOrigin) -> None:
    names = (("two.test", (("::1", "127.0.0.1"),)),)
    proxy = fleet.get(replace(OPEN, allowed=("two.test",), names=names), fast_path)
    with socks_tunnel(proxy, "two.test", origin.port) as client:
        assert client.ask(b"GET /t HTTP/1.1\r\nHost: x\r\n\r\n").text == "ok from shared\n"
    with Client(proxy.http) as client:
        assert client.ask(connect(f"two.test:{origin.port}"), "CONNECT").status == 200
        assert client.ask(b"GET /t HTTP/1.1\r\nHost: x\r\n\r\n").text == "ok from shared\n"
    with Client(proxy.http) as client:
        assert client.ask(get(f"http://two.test:{origin.port}/t")).text == "ok from shared\n"
    assert {address for address, _ in proxy.world.dials()} <= {"::1", "127.0.0.1"}


def test_many_tunnels_at_once(proxy: ProxyProcess, tunnel: Tunnel) -> None:
    with TcpOrigin(echo_bytes) as server:
        clients = [tunnel(proxy, server.port) for _ in range(100)]
        for number, client in enumerate(clients):
            client.send(b"%03d" % number)
        assert [client.stream.exactly(3) for client in clients] == [b"%03d" % number for number in range(100)]
        for client in clients:
            client.sock.close()
