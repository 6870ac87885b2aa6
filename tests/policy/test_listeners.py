"""Listen addresses and clamping (spec B1.6, B1.7)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.listeners import (
    Bind,
    ListenAddress,
    clamp,
    parse_listen_address,
    read_listen_address,
)

ADDRESSES = [
    pytest.param("http://127.0.0.1:3128", "127.0.0.1:3128", id="a URL"),
    pytest.param("  http://127.0.0.1:8080\n", "127.0.0.1:8080", id="blanks around are trimmed"),
    pytest.param("127.0.0.1:8080", "127.0.0.1:8080", id="host and port without a scheme"),
    pytest.param("127.0.0.1", "127.0.0.1:3128", id="no port is the default"),
    pytest.param("http://127.0.0.1:/", "127.0.0.1:3128", id="an empty port is the default"),
    pytest.param("http://127.0.0.1:0", "127.0.0.1:0", id="port 0 lets the system choose"),
    pytest.param("::1", "[::1]:3128", id="a bare IPv6 address has no port"),
    pytest.param("2001:db8::1", "[2001:db8::1]:3128", id="a bare IPv6 address keeps all its groups"),
    pytest.param("[::1]", "[::1]:3128", id="IPv6 in brackets"),
    pytest.param("[::1]:8080", "[::1]:8080", id="IPv6 in brackets with a port"),
    pytest.param("http://[::1]:8080/path?query#fragment", "[::1]:8080", id="path, query and fragment are dropped"),
    pytest.param("http://user:pass@127.0.0.1:8080", "127.0.0.1:8080", id="user-info is dropped"),
    pytest.param("user:pass@127.0.0.1:8080/x", "127.0.0.1:8080", id="user-info without a scheme is dropped"),
    pytest.param("socks5h://127.0.0.1:1080", "127.0.0.1:1080", id="the scheme does not matter"),
    pytest.param("localhost:8080", "127.0.0.1:8080", id="localhost is 127.0.0.1"),
    pytest.param("http://LocalHost", "127.0.0.1:3128", id="localhost in any case"),
    pytest.param("0.0.0.0:8080", "0.0.0.0:8080", id="every interface, before clamping"),
    pytest.param("[::ffff:192.0.2.1]:8080", "192.0.2.1:8080", id="a mapped address is IPv4"),
    pytest.param("127.1:8080", "127.0.0.1:8080", id="a short spelling is the address it means"),
    pytest.param("socks5://127.0.0.1:80", "127.0.0.1:80", id="port 80 of another scheme counts"),
    pytest.param("http://127.0.0.1:443", "127.0.0.1:443", id="port 443 of http counts"),
]

REPLACED = [
    pytest.param(
        "http://example.com:8080",
        "127.0.0.1:8080",
        'names are not resolved here, so "example.com" means 127.0.0.1',
        id="a name is never resolved",
    ),
    pytest.param("127.0.0.1:http", "127.0.0.1:3128", '"http" is not a port', id="a port that is no number"),
    pytest.param("127.0.0.1:65536", "127.0.0.1:3128", '"65536" is not a port', id="a port out of range"),
    pytest.param("http://127.0.0.1:99999999999", "127.0.0.1:3128", "is not a port", id="a port without end"),
    pytest.param("127.0.0.1:+80", "127.0.0.1:3128", '"+80" is not a port', id="a port with a sign"),
    pytest.param("[::1]:x", "[::1]:3128", '"x" is not a port', id="a bad port after brackets"),
    pytest.param("http://127.0.0.1:80", "127.0.0.1:3128", "belongs to http://", id="the scheme's own port is dropped"),
    pytest.param("127.0.0.1:80", "127.0.0.1:3128", "belongs to http://", id="no scheme is http"),
    pytest.param("HTTPS://127.0.0.1:443", "127.0.0.1:3128", "belongs to https://", id="https has a port of its own"),
    pytest.param("[::1", "127.0.0.1:3128", '"[::1" means 127.0.0.1', id="a bracket that is not closed is a name"),
    pytest.param("a:b:c", "127.0.0.1:3128", '"a:b:c" means 127.0.0.1', id="several colons are a name"),
]

NO_HOST = [
    pytest.param("", id="nothing"),
    pytest.param(" \t\n", id="blanks"),
    pytest.param(":8080", id="a port alone"),
    pytest.param("http://", id="a scheme alone"),
    pytest.param("http://:8080/", id="a scheme and a port"),
    pytest.param("user@", id="user-info alone"),
    pytest.param("[]:8080", id="empty brackets"),
]


@pytest.mark.parametrize(("text", "expected"), ADDRESSES)
def test_an_address_is_taken_at_its_word(text: str, expected: str) -> None:
    parsed = read_listen_address(text, 3128)
    assert (str(parsed.address), parsed.notes) == (expected, ())
    assert parse_listen_address(text, 3128) == parsed.address


@pytest.mark.parametrize(("text", "expected", "note"), REPLACED)
def test_what_is_replaced_by_a_default_is_noted(text: str, expected: str, note: str) -> None:
    parsed = read_listen_address(text, 3128)
    assert str(parsed.address) == expected
    assert note in "".join(parsed.notes)


def test_host_and_port_are_noted_separately() -> None:
    assert len(read_listen_address("example.com:x", 3128).notes) == 2


@pytest.mark.parametrize("text", NO_HOST)
def test_an_address_without_a_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidHost, match="missing host in network proxy address: "):
        parse_listen_address(text, 3128)


def test_the_default_port_is_the_callers() -> None:
    assert parse_listen_address("127.0.0.1", 8081).port == 8081


# The rows of spec B1.7: address, flag, unix sockets, bound address, words of the warning.
CLAMPS = [
    pytest.param("127.0.0.1", False, False, "127.0.0.1", None, id="loopback stays"),
    pytest.param("127.0.0.1", True, False, "127.0.0.1", None, id="loopback stays, whatever the flag"),
    pytest.param("127.0.0.2", False, False, "127.0.0.2", None, id="all of 127/8 is loopback"),
    pytest.param("::1", False, False, "::1", None, id="IPv6 loopback stays"),
    pytest.param("127.0.0.1", False, True, "127.0.0.1", None, id="127.0.0.1 is what unix sockets ask for"),
    pytest.param("127.0.0.2", False, True, "127.0.0.1", "unix sockets", id="unix sockets rewrite other loopback"),
    pytest.param("::1", True, True, "127.0.0.1", "unix sockets", id="unix sockets rewrite IPv6 loopback"),
    pytest.param("0.0.0.0", False, False, "127.0.0.1", "is not loopback", id="every interface is clamped"),
    pytest.param("::", False, False, "127.0.0.1", "is not loopback", id="every IPv6 interface is clamped"),
    pytest.param("192.168.1.5", False, False, "127.0.0.1", "is not loopback", id="a private address is clamped"),
    pytest.param("192.168.1.5", False, True, "127.0.0.1", "unix sockets", id="clamped, with unix sockets too"),
    pytest.param("0.0.0.0", True, False, "0.0.0.0", "DANGEROUS", id="opened on purpose, with a warning"),
    pytest.param("0.0.0.0", True, True, "127.0.0.1", "unix sockets", id="unix sockets win over the flag"),
]


@pytest.mark.parametrize(("host", "dangerously", "sockets", "bound", "warning"), CLAMPS)
def test_a_listener_is_clamped(host: str, dangerously: bool, sockets: bool, bound: str, warning: str | None) -> None:
    bind = clamp(ListenAddress(ip_address(host), 3128), dangerously, sockets)
    assert bind.address == ListenAddress(ip_address(bound), 3128)
    assert (bind.warning is None) == (warning is None)
    assert (warning or "") in (bind.warning or "")


def test_clamping_keeps_port_0() -> None:
    assert clamp(ListenAddress(ip_address("127.0.0.1"), 0), False, False) == Bind(
        ListenAddress(ip_address("127.0.0.1"), 0)
    )
