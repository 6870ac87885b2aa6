"""UDP through the SOCKS5 door: what is decided, reported and cut. `tests/socks/test_udp.py` has what is relayed."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Self

import pytest

from codex_network_proxy.addons.doorway import DoorLimits
from codex_network_proxy.policy.decision import Allowed, BlockReason, NetworkProtocol
from codex_network_proxy.socks.udp import UdpLimits
from tests.kit.socks_client import ASSOCIATE, IPAddress, SocksClient
from tests.kit.udp_client import ZEROS, Datagram, UdpClient
from tests.kit.udp_origins import UdpOrigin, silence

from .running_door import PATIENCE, RunningDoor

LOCAL = IPv4Address("127.0.0.1")


class UdpDoor(RunningDoor):
    """A running door, asked for UDP."""

    def __init__(self, udp: UdpLimits | None = None, connections: int = 4096, host: str = "127.0.0.1") -> None:
        super().__init__(DoorLimits(connections=connections, udp=udp or UdpLimits()), host=host)

    def __enter__(self) -> Self:
        super().__enter__()
        self.open_socks()
        return self

    def client(self, host: bytes | IPAddress = ZEROS, port: int = 0) -> UdpClient:
        return UdpClient(self.socks, host=host, port=port)

    @property
    def open_associations(self) -> int:
        return self.call(lambda: len(self.doorway.associations))

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> int:
        return self.call(lambda: self.door.recheck(still_allowed))


@contextmanager
def relaying(udp: UdpLimits | None = None) -> Iterator[tuple[UdpDoor, UdpClient, UdpOrigin]]:
    """A door, a client with an association, and an origin that echoes."""
    with UdpDoor(udp) as door, UdpOrigin() as origin, door.client() as client:
        yield door, client, origin


def hosts_asked(door: RunningDoor) -> list[str]:
    return [request.host for request in door.authority.asked]


# -- decisions ---------------------------------------------------------------------------------------------------------


def test_each_destination_is_decided_on_once_in_the_clients_name() -> None:
    with relaying() as (door, client, origin):
        for number in range(3):
            assert client.ask(b"allowed.test", origin.port, b"%d" % number) == Datagram(
                LOCAL, origin.port, b"%d" % number
            )
        assert client.ask("127.0.0.1", origin.port, b"x").payload == b"x"
        asked = [(one.protocol, one.host, one.port, one.client_address, one.method) for one in door.authority.asked]
        who = (origin.port, client.control.address, None)
        assert asked == [
            (NetworkProtocol.SOCKS5_UDP, "allowed.test", *who),
            (NetworkProtocol.SOCKS5_UDP, "127.0.0.1", *who),
        ]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"blocked.test", id="a name that is not allowed"),
        pytest.param(b"unresolved.test", id="a name without address"),
        pytest.param(b"unavailable.test", id="a broken configuration"),
        pytest.param(b"raises.test", id="an authority that raises"),
        pytest.param(b"inspected.test", id="what would have to be read"),
    ],
)
def test_a_destination_that_is_refused_costs_one_question_and_ends_nothing(name: bytes) -> None:
    with relaying() as (door, client, origin):
        for _ in range(3):
            client.send(name, origin.port, b"must not arrive")
        assert client.ask(b"allowed.test", origin.port, b"x").payload == b"x"
        assert hosts_asked(door) == [name.decode(), "allowed.test"]
        assert origin.payloads == [b"x"]


@pytest.mark.parametrize("name", [b"unresolved.test", b"unavailable.test"])
def test_what_failed_is_soon_asked_for_again(name: bytes) -> None:
    with relaying(UdpLimits(retry_seconds=0.01)) as (door, client, origin):
        for _ in range(10_000):
            client.send(name, origin.port, b"must not arrive")
            client.ask(b"allowed.test", origin.port, b"x")
            if hosts_asked(door).count(name.decode()) > 1:
                break
        assert hosts_asked(door) == [name.decode(), "allowed.test", name.decode()]
        assert set(origin.payloads) == {b"x"}


def test_datagrams_that_come_before_the_decision_are_not_lost() -> None:
    with relaying() as (door, client, origin):
        client.send(b"slow.test", origin.port, b"first")
        client.send(b"slow.test", origin.port, b"second")
        assert client.ask(b"allowed.test", origin.port, b"meanwhile").payload == b"meanwhile"
        door.settle_decision()
        assert [client.receive().payload for _ in range(2)] == [b"first", b"second"]


def test_a_denial_that_comes_late_drops_what_has_waited() -> None:
    with relaying() as (door, client, origin):
        client.send(b"slow-blocked.test", origin.port, b"must not arrive")
        door.settle_decision()
        assert client.ask(b"allowed.test", origin.port, b"x").payload == b"x"
        assert origin.payloads == [b"x"]


def test_a_client_that_leaves_takes_its_questions_with_it() -> None:
    with UdpDoor() as door:
        with door.client() as client:
            client.send(b"slow.test", 53, b"x")
            assert door.authority.waiting.wait(PATIENCE)
        door.wait_until_empty()
        answer = door.authority.answer
        assert answer is not None
        door.wait_until(answer.cancelled)


def test_an_error_after_the_decision_ends_the_association(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a secret")

    with relaying() as (door, client, origin):
        client.send(b"slow.test", origin.port, b"x")
        assert door.authority.waiting.wait(PATIENCE)
        monkeypatch.setattr("codex_network_proxy.addons.door_udp.UdpClient._act_on", fail)
        door.settle_decision()
        assert client.control.ended()
        assert door.log == ["a connection was closed after an internal error (ValueError)"]


def test_what_would_have_to_be_read_is_a_block_of_its_own() -> None:
    with relaying() as (door, client, origin):
        client.send(b"inspected.test", origin.port, b"x")
        client.ask(b"allowed.test", origin.port, b"x")
        assert [(one.host, reason) for one, reason in door.authority.denied] == [
            ("inspected.test", BlockReason.MITM_REQUIRED)
        ]


def test_the_authority_knows_where_datagrams_are_relayed() -> None:
    with UdpDoor() as door:
        with door.client() as client:
            assert door.authority.own_relays(LOCAL, client.relay[1])
        door.wait_until_empty()
        assert not door.authority.own_relays(LOCAL, client.relay[1])


@pytest.mark.parametrize(
    ("host", "port"),
    [
        pytest.param(b"", 53, id="no name"),
        pytest.param(b"allowed.test", 0, id="port 0"),
        pytest.param(b"allowed.test\0.evil.test", 53, id="a NUL in the name"),
        pytest.param("ä.test".encode(), 53, id="a name that is not ASCII"),
        pytest.param("127.0.0.1", 0, id="an address with port 0"),
    ],
)
def test_what_cannot_be_a_host_is_dropped_and_asks_nobody(
    host: str | bytes, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with relaying() as (door, client, origin), caplog.at_level(logging.INFO):
        client.send(host, port, b"must not arrive")
        client.send(host, port, b"must not arrive")
        assert client.ask(b"allowed.test", origin.port, b"x").payload == b"x"
        assert hosts_asked(door) == ["allowed.test"]
        assert origin.payloads == [b"x"]
        assert len([text for text in caplog.messages if text.startswith("SOCKS request rejected")]) == 1


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
        monkeypatch.setattr("codex_network_proxy.socks.udp._bound", fail)
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


# -- what others see ---------------------------------------------------------------------------------------------------


def test_each_destination_is_reported_with_its_size() -> None:
    with relaying() as (door, client, origin):
        client.ask(b"allowed.test", origin.port, b"12345")
        client.send(b"blocked.test", origin.port, b"x")
        client.control.sock.close()
        door.wait_until_empty()
        (opened,), (closed,) = door.observer.opened, door.observer.closed
        assert (opened.verdict.request.host, opened.peer) == ("allowed.test", f"127.0.0.1:{origin.port}")
        assert (opened.bytes_up, opened.bytes_down, opened.ended) == (0, 0, None)
        assert closed == replace(opened, bytes_up=5, bytes_down=5, ended=closed.ended)
        assert closed.ended is not None


# -- a new policy ------------------------------------------------------------------------------------------------------


def test_a_new_policy_cuts_what_it_does_not_allow_and_nothing_else() -> None:
    with relaying() as (door, client, origin):
        client.ask(b"kept.test", origin.port, b"1")
        client.ask(b"cut.test", origin.port, b"2")
        assert door.recheck(lambda verdict: verdict.request.host != "cut.test") == 1
        assert [one.verdict.request.host for one in door.observer.closed] == ["cut.test"]
        client.ask(b"kept.test", origin.port, b"3")
        assert hosts_asked(door) == ["kept.test", "cut.test"], "what is kept is not asked for again"


def test_a_question_that_fails_cuts_the_destination() -> None:
    def fail(verdict: Allowed) -> bool:
        raise ValueError("made up")

    with relaying() as (door, client, origin):
        client.ask(b"allowed.test", origin.port, b"x")
        assert door.recheck(fail) == 1


def test_after_a_new_policy_a_denied_destination_is_judged_anew() -> None:
    with relaying() as (door, client, origin):
        for _ in range(2):
            client.send(b"blocked.test", origin.port, b"x")
            client.ask(b"allowed.test", origin.port, b"x")
            assert door.recheck(lambda verdict: True) == 0
        assert hosts_asked(door) == ["blocked.test", "allowed.test", "blocked.test"]


def test_a_new_policy_waits_for_decisions_under_way() -> None:
    with relaying() as (door, client, origin):
        client.send(b"slow.test", origin.port, b"x")
        assert door.authority.waiting.wait(PATIENCE)
        assert door.recheck(lambda verdict: True) == 0
        door.settle_decision()
        assert client.receive().payload == b"x"
        assert hosts_asked(door) == ["slow.test"]


def test_a_decision_of_the_old_policy_that_nobody_has_acted_on_is_made_anew() -> None:
    with relaying() as (door, client, origin):
        client.send(b"slow.test", origin.port, b"x")
        door.settle_decision(and_then=lambda: door.door.recheck(lambda verdict: False))
        assert hosts_asked(door) == ["slow.test", "slow.test"]
        assert not origin.received
        door.settle_decision()
        assert client.receive().payload == b"x"


def test_switching_udp_off_ends_every_association() -> None:
    with relaying() as (door, client, origin), door.client() as other:
        client.ask(b"allowed.test", origin.port, b"x")
        door.authority.serves_udp = False
        assert door.recheck(lambda verdict: True) == 1
        assert client.control.ended()
        assert other.control.ended()


def test_a_broken_configuration_cuts_destinations_and_keeps_the_association() -> None:
    with relaying() as (door, client, origin):
        client.ask(b"allowed.test", origin.port, b"x")
        door.authority.serves_udp = None
        assert door.recheck(lambda verdict: False) == 1
        assert client.ask(b"allowed.test", origin.port, b"y").payload == b"y"
        assert hosts_asked(door) == ["allowed.test", "allowed.test"]


def test_an_origin_that_says_nothing_is_no_trouble() -> None:
    with UdpDoor() as door, UdpOrigin(silence) as origin, door.client() as client:
        client.send(b"allowed.test", origin.port, b"x")
        assert origin.wait() == [b"x"]
