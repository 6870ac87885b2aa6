"""Ways in for single commands: what was said of them reaches decider and audit on every door, and ends with them."""

from __future__ import annotations

import errno
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_network_proxy import ClientScope, NetworkDecision, NetworkPolicyRequest, NetworkProxy
from codex_network_proxy.addons import front_door
from codex_network_proxy.addons.proxy_scope import ProxyScope
from codex_network_proxy.socks.listener import bind
from tests.kit.origins import HttpOrigin
from tests.kit.raw import Client, connect
from tests.kit.socks_client import SocksClient
from tests.kit.tls import TestAuthority
from tests.kit.udp_client import UdpClient
from tests.kit.udp_origins import UdpOrigin

from .library_kit import builder

HOOKED = "hooked.test"
HOOK = {"host": HOOKED, "match": {"methods": ["GET"], "path_prefixes": ["/"]}, "actions": {}}
SCOPE = ClientScope("curl other.test", "allow curl", "env-1", "exec-1")


class Place:
    """A proxy whose decider allows everything and remembers who asked."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.asked: list[NetworkPolicyRequest] = []
        self.trusts = TestAuthority(home)
        environ = {"HOME": str(home), "SSL_CERT_FILE": str(self.trusts.bundle)}
        made = builder(home, mitm=True, mitm_hooks=[HOOK]).environ(environ).policy_decider(self._decide)
        self.proxy: NetworkProxy = made.start_sync()

    def scope(self) -> ProxyScope:
        """A way in of which everything is said that can be said."""
        return self.proxy.scope(
            command=SCOPE.command,
            exec_policy_hint=SCOPE.exec_policy_hint,
            environment_id=SCOPE.environment_id,
            execution_id=SCOPE.execution_id,
        )

    async def _decide(self, request: NetworkPolicyRequest) -> NetworkDecision:
        self.asked.append(request)
        return NetworkDecision.allow()

    def executions(self) -> list[tuple[str, str, object]]:
        """Protocol, method and `execution.id` of every audit event, once the proxy has ended."""
        self.proxy.shutdown_sync()
        lines = (self.home / "log" / "network-proxy.jsonl").read_text().splitlines()
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [
            (event["network.transport.protocol"], event["http.request.method"], event.get("execution.id"))
            for event in events
        ]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.proxy.shutdown_sync()


def plain(address: str, port: int, host: str = "other.test") -> int:
    with Client(address) as client:
        return client.ask(f"GET http://{host}:{port}/t HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()).status


def test_on_plain_requests(place: Place, origin: HttpOrigin) -> None:
    way = place.scope()
    with way:
        assert plain(way.http_address, origin.port) == 200
    assert [request.scope for request in place.asked] == [SCOPE]
    assert place.executions() == [("http", "GET", "exec-1")]


def test_on_connect(place: Place, origin: HttpOrigin) -> None:
    way = place.scope()
    with way, Client(way.http_address) as client:
        assert client.ask(connect(f"other.test:{origin.port}"), "CONNECT").status == 200
    assert [(request.command, request.exec_policy_hint) for request in place.asked] == [
        ("curl other.test", "allow curl")
    ]
    assert place.executions() == [("https_connect", "CONNECT", "exec-1")]


def test_on_requests_inside_an_intercepted_tunnel(place: Place) -> None:
    way = place.scope()
    context = ssl.create_default_context(cafile=str(place.home / "proxy" / "ca.pem"))
    with (
        HttpOrigin("tls", tls=place.trusts.server_context(HOOKED)) as origin,
        way,
        Client(way.http_address) as client,
    ):
        target = f"{HOOKED}:{origin.port}"
        assert client.ask(connect(target), "CONNECT").status == 200
        client.start_tls(context, HOOKED)
        assert client.ask(f"GET /t HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()).status == 200
    assert {request.scope for request in place.asked} == {SCOPE}
    found = place.executions()
    assert {execution for *_, execution in found} == {"exec-1"}
    assert {method for _, method, _ in found} == {"CONNECT", "GET"}


def test_on_socks(place: Place, origin: HttpOrigin) -> None:
    way = place.scope()
    with way:
        assert way.socks_address
        with SocksClient(way.socks_address) as client:
            assert client.command(b"other.test", origin.port).code == 0
    assert [request.scope for request in place.asked] == [SCOPE]
    assert place.executions() == [("socks5_tcp", "none", "exec-1")]


def test_on_datagrams(place: Place) -> None:
    way = place.scope()
    with UdpOrigin() as origin, way:
        assert way.socks_address
        with UdpClient(way.socks_address) as client:
            assert client.ask(b"other.test", origin.port, b"hello").payload == b"hello"
    assert [request.scope for request in place.asked] == [SCOPE]
    assert place.executions() == [("socks5_udp", "none", "exec-1")]


def test_clients_of_other_doors_are_nobodys(place: Place, origin: HttpOrigin) -> None:
    with place.scope():
        assert plain(place.proxy.http_address, origin.port) == 200
    assert [request.scope for request in place.asked] == [ClientScope()]
    assert place.executions() == [("http", "GET", None)]


def test_an_approval_of_one_command_is_not_another_ones(place: Place, origin: HttpOrigin) -> None:
    one, two = place.proxy.scope(command="one"), place.proxy.scope(command="two")
    with one, two:
        for way in (one, two):
            assert plain(way.http_address, origin.port) == 200
    assert [request.command for request in place.asked] == ["one", "two"]


def test_the_environment_leads_to_the_scope(place: Place) -> None:
    way = place.proxy.scope(base={"PATH": "/bin", "HTTP_PROXY": "http://elsewhere.example"})
    with way as env:
        assert env["HTTP_PROXY"] == env["https_proxy"] == f"http://{way.http_address}"
        assert env["ALL_PROXY"] == f"socks5h://{way.socks_address}"
        assert env["SSL_CERT_FILE"] == str(place.home / "proxy" / "ca-bundle.pem")
        assert env["PATH"] == "/bin"
        assert place.proxy.child_env({})["HTTP_PROXY"] == f"http://{place.proxy.http_address}"
        assert way.http_address != place.proxy.http_address


# -- the end of a scope ------------------------------------------------------------------------------------------------


def test_its_end_closes_its_listeners_and_every_connection_and_nobody_elses(place: Place, origin: HttpOrigin) -> None:
    """Another scope that says the very same goes on."""
    mine, yours = place.scope(), place.scope()
    target = connect(f"other.test:{origin.port}")
    request = f"GET http://other.test:{origin.port}/t HTTP/1.1\r\nHost: other.test:{origin.port}\r\n\r\n".encode()
    with UdpOrigin() as datagrams, yours:
        stays, kept = Client(yours.http_address), Client(yours.http_address)
        assert stays.ask(target, "CONNECT").status == 200
        assert kept.ask(request).status == 200
        with mine:
            address, socks = mine.http_address, mine.socks_address or ""
            relayed, inspected, silent, udp = Client(address), Client(address), Client(socks), UdpClient(socks)
            assert relayed.ask(target, "CONNECT").status == 200
            assert inspected.ask(request).status == 200
            assert udp.ask(b"other.test", datagrams.port, b"x").payload == b"x"
        for client in (relayed, inspected, silent, udp.control):
            with client:
                assert client.ended()
        udp.sock.close()
        for gone in (address, socks):
            with pytest.raises(ConnectionRefusedError):
                Client(gone)
        for client in (stays, kept):
            with client:
                assert client.ask(b"GET /t HTTP/1.1\r\nHost: x\r\n\r\n" if client is stays else request).status == 200


def test_a_scope_is_open_once(place: Place) -> None:
    way = place.proxy.scope()
    with pytest.raises(RuntimeError, match="not open"):
        _ = way.http_address
    with way:
        with pytest.raises(RuntimeError, match="open already"):
            way.__enter__()
        assert way.http_address
    with way:
        assert way.http_address


def test_nobody_comes_in_through_the_proxy_itself(place: Place) -> None:
    """Or a client could pass for another."""
    place.proxy.add_allowed_domain("127.0.0.1")
    way = place.scope()
    with way, Client(place.proxy.http_address) as client:
        assert client.ask(connect(way.http_address), "CONNECT").status == 403
    assert place.asked == []


def test_a_port_that_cannot_be_had_leaves_no_other_open(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[int] = []

    def once(host: str, port: int) -> socket.socket:
        if bound:
            raise OSError(errno.EADDRINUSE, "no port is left")
        sock = bind(host, port)
        bound.append(sock.getsockname()[1])
        return sock

    monkeypatch.setattr(front_door, "bind", once)
    with pytest.raises(OSError, match="no port is left"), place.scope():
        pass
    with pytest.raises(ConnectionRefusedError):
        Client(f"127.0.0.1:{bound[0]}")
