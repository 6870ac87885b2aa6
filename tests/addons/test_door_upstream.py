"""The door behind an upstream proxy: tunnels through it are relayed, reported and given up like all others."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.upstream import UpstreamProxy
from tests.kit.raw import Client, connect
from tests.kit.server import RecordingStream
from tests.kit.socks_client import SocksClient
from tests.kit.tcp_origins import BANNER, TcpOrigin, banner_first, echo_bytes
from tests.kit.tls import TestAuthority
from tests.kit.upstream_proxy import UpstreamProxyServer

from .running_door import RunningDoor, open_tunnel, still_open
from .upstream_kit import FakeResolver, upstreams

BEHIND = "behind.test"


@pytest.fixture(params=[False, True], ids=["http", "https"])
def upstream(request: pytest.FixtureRequest, authority: TestAuthority) -> Iterator[UpstreamProxyServer]:
    tls: ssl.SSLContext | None = authority.server_context("127.0.0.1") if request.param else None
    with UpstreamProxyServer(tls=tls) as running:
        yield running


@pytest.fixture
def door(upstream: UpstreamProxyServer, authority: TestAuthority) -> Iterator[RunningDoor]:
    with RunningDoor(upstreams=upstreams(FakeResolver(), authority.bundle)) as running:
        running.authority.upstream = proxy_at(upstream)
        yield running
        running.wait_until_empty()


def proxy_at(upstream: UpstreamProxyServer) -> UpstreamProxy:
    return UpstreamProxy(parse_endpoint(upstream.address), upstream.tls is not None)


def test_a_tunnel_is_reported_with_the_upstream_proxy_as_its_peer(
    door: RunningDoor, upstream: UpstreamProxyServer
) -> None:
    with TcpOrigin(echo_bytes) as origin, open_tunnel(door, origin, BEHIND) as client:
        assert still_open(client)
        assert upstream.asked == [f"CONNECT {BEHIND}:{origin.port}"]
    door.wait_until_empty()
    (closed,) = door.observer.closed
    assert (closed.peer, closed.bytes_up, closed.bytes_down) == (upstream.address, 1, 1)


def test_the_targets_first_bytes_come_behind_the_answer(door: RunningDoor) -> None:
    with TcpOrigin(banner_first) as origin, open_tunnel(door, origin, BEHIND) as client:
        assert client.stream.exactly(len(BANNER)) == BANNER


def test_a_socks_client_is_told_that_the_tunnel_stands(door: RunningDoor) -> None:
    door.open_socks()
    with TcpOrigin(echo_bytes) as origin, SocksClient(door.socks) as client:
        assert client.command(BEHIND.encode(), origin.port).code == 0
        assert still_open(client)


def test_a_tunnel_is_cut_when_the_policy_changes(door: RunningDoor) -> None:
    with TcpOrigin(echo_bytes) as origin, open_tunnel(door, origin, BEHIND) as client:
        assert door.call(lambda: door.door.recheck(lambda _: False)) == 1
        assert client.ended()
        origin.recorder.wait(lambda: origin.recorder.connections[0].closed, "the far side closed")


def read_on(stream: RecordingStream) -> None:
    stream.rest()


def test_a_way_is_given_up_when_the_policy_changes() -> None:
    with TcpOrigin(read_on) as silent, RunningDoor(upstreams=upstreams()) as door:
        door.authority.upstream = UpstreamProxy(parse_endpoint(f"127.0.0.1:{silent.port}"))
        with Client(door.address) as client:
            client.send(connect(f"{BEHIND}:443"))
            door.wait_until(lambda: len(door.doorway.dialling) == 1)
            assert door.call(lambda: door.door.recheck(lambda _: False)) == 1
            assert client.ended()
        silent.recorder.wait(lambda: silent.recorder.connections[0].closed, "the upstream proxy was left")


def test_a_door_without_a_way_through_stays_closed() -> None:
    with RunningDoor() as door:
        door.authority.upstream = UpstreamProxy(parse_endpoint("127.0.0.1:1"))
        with TcpOrigin(echo_bytes) as origin, Client(door.address) as client:
            client.send(connect(f"{BEHIND}:{origin.port}"))
            assert client.ended()
            assert not origin.recorder.connections
        assert door.log == ["a connection was closed after an internal error (RuntimeError)"]
