"""The proxy knows its own listeners by whatever address they are reached."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address

import pytest

from codex_network_proxy.addons.own_listeners import OwnListeners


@pytest.mark.parametrize(
    ("address", "port", "own"),
    [
        pytest.param("127.0.0.1", 3128, True, id="loopback"),
        pytest.param("127.9.9.9", 3128, True, id="another loopback address"),
        pytest.param("::1", 3128, True, id="loopback over IPv6"),
        pytest.param("0.0.0.0", 3128, True, id="any address"),
        pytest.param("::ffff:127.0.0.1", 3128, True, id="a mapped loopback address"),
        pytest.param("127.0.0.1", 3129, False, id="another port"),
        pytest.param("93.184.216.34", 3128, False, id="somebody else's address"),
        pytest.param("2606:2800:220:1::1", 3128, False, id="somebody else's IPv6 address"),
    ],
)
def test_the_proxy_knows_its_own_listeners(address: str, port: int, own: bool) -> None:
    listeners = OwnListeners()
    listeners.add(3128)
    assert listeners(ip_address(address), port) is own


def test_without_a_descriptor_to_find_out_an_address_counts_as_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_files(*arguments: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    listeners = OwnListeners()
    listeners.add(3128)
    monkeypatch.setattr(socket, "socket", out_of_files)
    assert listeners(ip_address("93.184.216.34"), 3128)
    assert not listeners(ip_address("93.184.216.34"), 3129)


def test_a_port_is_ours_until_its_last_listener_is_closed() -> None:
    listeners = OwnListeners()
    listeners.add(3128)
    listeners.add(3128)  # at another address
    listeners.discard(3128)
    assert listeners(ip_address("127.0.0.1"), 3128)
    for _ in range(2):
        listeners.discard(3128)
        assert not listeners(ip_address("127.0.0.1"), 3128)
    listeners.add(3128)
    assert listeners(ip_address("127.0.0.1"), 3128)


def test_where_datagrams_are_relayed_the_other_listeners_count_as_well() -> None:
    listeners = OwnListeners()
    relays = OwnListeners(listeners)
    listeners.add(3128)
    relays.add(5000)
    address = ip_address("127.0.0.1")
    assert [relays(address, port) for port in (3128, 5000, 5001)] == [True, True, False]
    assert not listeners(address, 5000)
