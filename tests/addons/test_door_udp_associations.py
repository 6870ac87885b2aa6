"""Which UDP associations are to be had through the SOCKS5 door, and how they end."""

from __future__ import annotations

import errno
import logging
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.kit.socks_client import ASSOCIATE, GRANTED, GREETING, IPAddress, SocksClient, socks_request
from tests.kit.udp_client import ZEROS, Datagram
from tests.kit.udp_origins import UdpOrigin

from .running_door import PATIENCE
from .udp_door import LOCAL, UdpDoor, hosts_asked

# -- the request for an association ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("serves_udp", "code"),
    [pytest.param(False, 7, id="UDP is switched off"), pytest.param(None, 1, id="the configuration is broken")],
)
def test_an_association_that_is_not_to_be_had(serves_udp: bool | None, code: int) -> None:
    with UdpDoor() as door, SocksClient(door.socks) as client:
        door.authority.serves_udp = serves_udp
        assert client.command(LOCAL, 0, ASSOCIATE).code == code
        assert client.ended()
        assert door.open_associations == 0


CLAIMS = [
    pytest.param(ZEROS, 0, id="zeros"),
    pytest.param(IPv6Address(0), 0, id="zeros of IPv6"),
    pytest.param(LOCAL, 0, id="its own address"),
    pytest.param(IPv6Address("::ffff:127.0.0.1"), 0, id="its own address as IPv6"),
    pytest.param(b"0", 0, id="zeros as PySocks spells them"),
    pytest.param(b"127.0.0.1", 0, id="its own address as a domain"),
]

FALSE_CLAIMS = [
    pytest.param(IPv4Address("127.0.0.2"), 0, 2, id="another address"),
    pytest.param(b"127.0.0.2", 0, 2, id="another address as a domain"),
    pytest.param(IPv6Address("::1"), 0, 2, id="an address of another family"),
    pytest.param(b"client.test", 0, 8, id="a name, which would have to be resolved"),
    pytest.param(b"", 0, 8, id="an empty domain"),
    pytest.param(b"\xff\0", 0, 8, id="bytes that are no name"),
]


@pytest.mark.parametrize(("host", "port"), CLAIMS)
def test_an_address_that_the_client_may_announce(host: bytes | IPAddress, port: int) -> None:
    with UdpDoor() as door, UdpOrigin() as origin, door.client(host, port) as client:
        assert client.relay[0] == "127.0.0.1"
        assert client.ask(b"allowed.test", origin.port, b"x").payload == b"x"


@pytest.mark.parametrize(("host", "port", "code"), FALSE_CLAIMS)
def test_an_address_that_the_client_may_not_announce(host: bytes | IPAddress, port: int, code: int) -> None:
    with UdpDoor() as door, SocksClient(door.socks) as client:
        assert client.command(host, port, ASSOCIATE).code == code
        assert client.ended()
        assert hosts_asked(door) == []


def test_a_port_that_was_announced_is_the_only_one_that_may_send() -> None:
    with UdpDoor() as door, UdpOrigin() as origin, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as announced:
        announced.bind(("127.0.0.1", 0))
        with door.client(port=announced.getsockname()[1]) as client:
            client.send(b"allowed.test", origin.port, b"from another port")
            client.sock.close()
            client.sock = announced.dup()
            client.sock.settimeout(PATIENCE)
            assert client.ask(b"allowed.test", origin.port, b"x").payload == b"x"
        assert origin.payloads == [b"x"]


def test_a_listener_on_ipv6_has_its_relays_there() -> None:
    with UdpDoor(host="::1") as door, UdpOrigin() as origin, door.client(IPv6Address("::1")) as client:
        assert client.relay[0] == "::1"
        assert client.ask(b"allowed.test", origin.port, b"x") == Datagram(LOCAL, origin.port, b"x")


def test_without_a_socket_the_client_hears_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    with UdpDoor() as door, SocksClient(door.socks) as client:
        monkeypatch.setattr("codex_network_proxy.socks.udp.bound", fail)
        assert client.command(LOCAL, 0, ASSOCIATE).code == 1
        assert client.ended()
        client.sock.close()
        door.wait_until_empty()


# -- the end -----------------------------------------------------------------------------------------------------------


def test_an_association_ends_with_its_connection_and_counts_until_then() -> None:
    with UdpDoor(connections=2) as door:
        with door.client() as first, door.client():
            assert (door.door.taken, door.open_associations) == (2, 2)
            with SocksClient(door.socks) as third:
                assert third.ended()
            first.control.sock.close()
            door.wait_until(lambda: door.door.taken == 1)
            with door.client():
                assert door.door.taken == 2
        door.wait_until_empty()
        assert door.open_associations == 0


def test_what_comes_behind_the_request_is_no_second_one_and_an_end_there_is_the_end() -> None:
    with UdpDoor() as door, SocksClient(door.socks) as client:
        client.send(GREETING + 2 * socks_request(ZEROS, 0, ASSOCIATE))
        client.finish()
        assert client.stream.exactly(2) == GRANTED
        assert client.reply().code == 0
        assert client.ended()
        door.wait_until_empty()
        assert door.open_associations == 0


def test_closing_the_door_ends_every_association() -> None:
    with UdpDoor() as door, UdpOrigin() as origin, door.client() as client:
        client.ask(b"allowed.test", origin.port, b"x")
        client.send(b"slow.test", origin.port, b"x")
        assert door.authority.waiting.wait(PATIENCE)
        door.call(door.door.close)
        assert client.control.ended()
        assert [(one.bytes_up, one.bytes_down) for one in door.observer.closed] == [(1, 1)]


def test_what_went_nowhere_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with UdpDoor() as door, caplog.at_level(logging.DEBUG):
        with door.client() as client:
            client.sock.sendto(b"\0\0\x01\x01\x7f\0\0\x01\0\x35fragment", client.relay)
            for _ in range(3):
                client.send(b"blocked.test", 53, b"x")
            client.send(b"slow.test", 53, b"x")
            assert door.authority.waiting.wait(PATIENCE)
            address = client.control.address
        door.wait_until_empty()
    dropped = '"1 a fragment; 2 its destination is not allowed"'
    assert f"SOCKS UDP association closed (client={address}, dropped={dropped})" in caplog.messages
