"""UDP through the SOCKS5 port, with real clients: what passes, what does not, and what a changed configuration cuts."""

from __future__ import annotations

import importlib
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.kit.fleet import Fleet
from tests.kit.hooks import API, Hook, inspecting
from tests.kit.policies import LIMITED, OPEN, STRICT
from tests.kit.process import REPO
from tests.kit.proxy import Event, ProxyProcess
from tests.kit.raw import split_address
from tests.kit.socks_client import ASSOCIATE, SocksClient, address_bytes
from tests.kit.udp_client import ZEROS, UdpClient
from tests.kit.udp_origins import DnsOrigin, UdpOrigin

# By its name mypy would find the folder of ours.
PYSOCKS: Any = importlib.import_module("socks")

LOOPBACK = "127.0.0.1"
SECONDS = 10.0
NAMES = replace(OPEN, allowed=("allowed.test", "*.sub.test", LOOPBACK))
# Nobody may go there. The event says that everything that was sent before has been seen.
PROBE = b"probe.invalid"


@pytest.fixture
def proxy(fleet: Fleet) -> ProxyProcess:
    return fleet.get(NAMES)


@pytest.fixture
def echoing() -> Iterator[UdpOrigin]:
    with UdpOrigin() as origin:
        yield origin


def pysocks(proxy: ProxyProcess) -> Any:
    """The UDP socket of PySocks that the README shows, with its association."""
    made, told = re.findall(r"`(sock(?: =|\.)[^`]+)`", (REPO / "README.md").read_text())
    assert "8081" in told
    names: dict[str, Any] = {"socks": PYSOCKS, "socket": socket}
    exec(f"{made}; {told.replace('8081', str(split_address(proxy.socks)[1]))}", names)
    sock = names["sock"]
    sock.settimeout(SECONDS)
    sock.bind(("", 0))
    return sock


def events_of(proxy: ProxyProcess, client: UdpClient, count: int = 1) -> list[Event]:
    return proxy.audit_events(count, lambda event: event["client.address"] == client.control.address)


def said(events: list[Event]) -> list[tuple[str, ...]]:
    """What was decided on which host."""
    return [
        (event["server.address"], event["network.policy.decision"], event["network.policy.reason"]) for event in events
    ]


# -- real clients ------------------------------------------------------------------------------------------------------


def test_a_dns_query_of_dnspython(proxy: ProxyProcess) -> None:
    query = dns.message.make_query("www.example.test", "A")
    with DnsOrigin({"www.example.test": "192.0.2.80"}) as server, pysocks(proxy) as sock:
        answer = dns.query.udp(query, LOOPBACK, SECONDS, server.port, sock=sock)
        assert answer.answer[0].to_text() == "www.example.test. 60 IN A 192.0.2.80"
        missing = dns.query.udp(dns.message.make_query("no.test", "A"), LOOPBACK, SECONDS, server.port, sock=sock)
        assert missing.rcode() is dns.rcode.NXDOMAIN


def test_a_datagram_of_pysocks_to_a_name(proxy: ProxyProcess, echoing: UdpOrigin) -> None:
    with pysocks(proxy) as sock:
        sock.sendto(b"by name", ("allowed.test", echoing.port))
        assert sock.recvfrom(100) == (b"by name", (LOOPBACK, echoing.port))


def test_datagrams_pass_where_every_tunnel_goes_through_the_engine(fleet: Fleet, echoing: UdpOrigin) -> None:
    with UdpClient(fleet.get(NAMES, fast_path=False).socks) as client:
        assert client.ask(b"allowed.test", echoing.port, b"x").payload == b"x"


@pytest.mark.parametrize("size", [1200, 1252, 1350, 1472, 1500])
def test_datagrams_of_the_size_of_quic(size: int, proxy: ProxyProcess, echoing: UdpOrigin) -> None:
    with UdpClient(proxy.socks) as client:
        payload = os.urandom(size)
        assert client.ask(b"allowed.test", echoing.port, payload).payload == payload


def test_the_first_datagrams_wait_for_the_lookup(fleet: Fleet, echoing: UdpOrigin) -> None:
    proxy = fleet.get(replace(NAMES, allowed=("looked-up.test",), names=(("looked-up.test", ((LOOPBACK,),)),)))
    with UdpClient(proxy.socks) as client:
        for number in range(4):
            client.send(b"looked-up.test", echoing.port, b"%d" % number)
        assert sorted(client.receive().payload for _ in range(4)) == [b"0", b"1", b"2", b"3"]
    assert proxy.world.lookups() == ["looked-up.test"]


# -- who may send ------------------------------------------------------------------------------------------------------


def test_a_foreign_sender_gets_nothing_through(proxy: ProxyProcess, echoing: UdpOrigin) -> None:
    with UdpClient(proxy.socks) as client, UdpClient(proxy.socks) as other:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
            foreign.bind(("127.0.0.2", 0))
            client.sock, foreign = foreign, client.sock
            client.send(LOOPBACK, echoing.port, b"from another address")
            client.sock, foreign = foreign, client.sock
        assert client.ask(LOOPBACK, echoing.port, b"mine").payload == b"mine"
        other.relay = client.relay
        other.send(LOOPBACK, echoing.port, b"from another port")
        assert client.ask(LOOPBACK, echoing.port, b"mine as well").payload == b"mine as well"
    assert echoing.payloads == [b"mine", b"mine as well"]


# -- what does not pass ------------------------------------------------------------------------------------------------


def refused(proxy: ProxyProcess, host: str | bytes, port: int, count: int = 1) -> list[tuple[str, ...]]:
    """Sends three datagrams to a place that is closed; the `count` events that this costs."""
    dials = len(proxy.world.dials())
    with UdpClient(proxy.socks) as client:
        for _ in range(3):
            client.send(host, port, b"must not arrive")
        client.send(PROBE, 9, b"x")
        *events, probe = events_of(proxy, client, count + 1)
        assert said([probe]) == [(PROBE.decode(), "deny", "not_allowed")]
        # The relay talks to its client, and to nobody else.
        assert set(proxy.world.dials()[dials:]) <= {client.sock.getsockname()}
    assert {event["network.transport.protocol"] for event in events} == {"socks5_udp"}
    assert {event["http.request.method"] for event in events} == {"none"}
    return said(events)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("evil.test", "not_allowed", id="a name that no entry covers"),
        pytest.param("denied.test", "denied", id="a name that is denied"),
        pytest.param("denied.sub.test", "denied", id="a name that is allowed and denied"),
    ],
)
def test_a_name_that_is_not_allowed_is_never_looked_up(
    name: str, reason: str, fleet: Fleet, echoing: UdpOrigin
) -> None:
    proxy = fleet.get(
        replace(NAMES, denied=("denied.test", "denied.sub.test"), pins=(), names=((name, ((LOOPBACK,),)),))
    )
    assert refused(proxy, name.encode(), echoing.port) == [(name, "deny", reason)]
    assert proxy.world.lookups() == []
    assert echoing.payloads == []


PRIVATE = [
    pytest.param("10.0.0.1", 53, id="I08 a private address"),
    pytest.param("127.0.0.1", 53, id="I08 loopback"),
    pytest.param("::1", 53, id="I08 loopback over IPv6"),
    pytest.param("::ffff:127.0.0.1", 53, id="I08 loopback spelled as IPv6"),
    pytest.param("0.0.0.0", 53, id="I08 this machine"),
    pytest.param("169.254.169.254", 80, id="I08 cloud metadata"),
    pytest.param("192.168.1.255", 9, id="I08 the broadcast address of a network"),
    pytest.param("255.255.255.255", 67, id="I08 broadcast"),
    pytest.param("224.0.0.251", 5353, id="I08 multicast"),
    pytest.param("ff02::fb", 5353, id="I08 multicast over IPv6"),
]


@pytest.mark.parametrize(("host", "port"), PRIVATE)
def test_addresses_of_this_machine_and_its_networks_are_closed(host: str, port: int, fleet: Fleet) -> None:
    ((_, decision, reason),) = refused(fleet.get(STRICT), host, port)
    assert (decision, reason) == ("deny", "not_allowed_local")


@pytest.mark.parametrize("port", [53, 443])
def test_public_addresses_that_no_entry_covers_are_closed(port: int, fleet: Fleet) -> None:
    assert refused(fleet.get(STRICT), "8.8.8.8", port) == [("8.8.8.8", "deny", "not_allowed")]


def test_a_name_with_a_private_address_is_closed(fleet: Fleet, echoing: UdpOrigin) -> None:
    assert refused(fleet.get(STRICT), b"allowed.test", echoing.port) == [("allowed.test", "deny", "not_allowed_local")]
    assert echoing.payloads == []


def test_a_name_is_pinned_to_the_address_that_was_judged(fleet: Fleet, echoing: UdpOrigin) -> None:
    rebinding = (("moving.test", ((LOOPBACK,), ("127.0.0.9",))),)
    proxy = fleet.get(replace(NAMES, allowed=("moving.test",), names=rebinding))
    with UdpClient(proxy.socks) as client:
        for _ in range(3):
            assert client.ask(b"moving.test", echoing.port, b"x").payload == b"x"
        (event,) = events_of(proxy, client)
        assert event["network.peer.address"] == LOOPBACK
    assert proxy.world.lookups() == ["moving.test"]


@pytest.mark.parametrize("port", [53, 443])
def test_limited_mode_passes_no_datagram(port: int, fleet: Fleet) -> None:
    assert refused(fleet.get(LIMITED), b"allowed.test", port, count=2) == [
        ("allowed.test", "allow", "allow"),
        ("allowed.test", "deny", "method_not_allowed"),
    ]


@pytest.mark.parametrize("mitm", [False, True])
def test_quic_to_a_hooked_host_is_closed(mitm: bool, tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, inspecting(Hook(API), mitm=mitm)) as proxy:
        assert refused(proxy, API.encode(), 443, count=2) == [
            (API, "allow", "allow"),
            (API, "deny", "mitm_required"),
        ]


def test_no_association_is_another_ones_destination(proxy: ProxyProcess, echoing: UdpOrigin) -> None:
    with UdpClient(proxy.socks) as client, UdpClient(proxy.socks) as other:
        inner = b"\0\0\0" + address_bytes(ip_address(LOOPBACK), echoing.port) + b"must not arrive"
        for relay in (other.relay, client.relay):
            client.send(*relay, inner)
        assert client.ask(LOOPBACK, echoing.port, b"x").payload == b"x"
        assert said(events_of(proxy, client, 3)) == [
            (LOOPBACK, "deny", "not_allowed_local"),
            (LOOPBACK, "deny", "not_allowed_local"),
            (LOOPBACK, "allow", "allow"),
        ]
        assert echoing.payloads == [b"x"]


# -- the configuration changes -----------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> ProxyProcess:
    return ProxyProcess(tmp_path, NAMES)


def answer_to_another(proxy: ProxyProcess) -> int:
    """The code of the reply to a request for one."""
    with SocksClient(proxy.socks) as client:
        return client.command(ZEROS, 0, ASSOCIATE).code


def test_a_host_that_is_now_denied_is_cut_off(running: ProxyProcess, echoing: UdpOrigin) -> None:
    with running as proxy, UdpClient(proxy.socks) as client:
        assert client.ask(b"allowed.test", echoing.port, b"1").payload == b"1"
        assert client.ask(LOOPBACK, echoing.port, b"2").payload == b"2"
        proxy.reload(replace(NAMES, denied=("allowed.test",)).toml())
        proxy.until_printed("closed 1 connection that the new policy does not allow")
        client.send(b"allowed.test", echoing.port, b"must not arrive")
        assert client.ask(LOOPBACK, echoing.port, b"3").payload == b"3"
        assert echoing.payloads == [b"1", b"2", b"3"]
        assert said(events_of(proxy, client, 3))[2:] == [("allowed.test", "deny", "denied")]
        proxy.reload(NAMES.toml())
        proxy.until_printed("config entry removed from denylist: allowed.test")
        assert client.ask(b"allowed.test", echoing.port, b"4").payload == b"4"


def test_k05_a_broken_file_closes_everything_until_it_is_repaired(running: ProxyProcess, echoing: UdpOrigin) -> None:
    with running as proxy, UdpClient(proxy.socks) as client:
        assert client.ask(LOOPBACK, echoing.port, b"1").payload == b"1"
        proxy.reload("= [")
        proxy.until_printed("closed 1 connection that the new policy does not allow")
        assert answer_to_another(proxy) == 1
        client.send(LOOPBACK, echoing.port, b"must not arrive")
        proxy.reload(NAMES.toml())
        proxy.until_printed("reloaded config")
        assert client.ask(LOOPBACK, echoing.port, b"2").payload == b"2"
        assert echoing.payloads == [b"1", b"2"]


def test_switched_off(running: ProxyProcess, echoing: UdpOrigin) -> None:
    with running as proxy, UdpClient(proxy.socks) as client:
        assert client.ask(LOOPBACK, echoing.port, b"1").payload == b"1"
        proxy.reload(replace(NAMES, enabled=False).toml())
        proxy.until_printed("closed 1 connection that the new policy does not allow")
        client.send(LOOPBACK, echoing.port, b"must not arrive")
        assert said(events_of(proxy, client, 2))[1:] == [(LOOPBACK, "deny", "proxy_disabled")]
        assert echoing.payloads == [b"1"]


def test_udp_alone_switched_off(running: ProxyProcess) -> None:
    with running as proxy, UdpClient(proxy.socks) as client:
        proxy.reload(replace(NAMES, lines=("enable_socks5_udp = false",)).toml())
        assert client.control.ended()
        assert answer_to_another(proxy) == 7
