from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_network_proxy.socks.addressing import (
    LONGEST_DOMAIN,
    IPAddress,
    Target,
    UnknownAddressType,
    read_target,
    write_target,
)

V4 = IPv4Address("192.0.2.7")
V6 = IPv6Address("2001:db8::7")
MAPPED = IPv6Address("::ffff:127.0.0.1")

WRITTEN = [
    pytest.param(V4, 443, b"\x01\xc0\x00\x02\x07\x01\xbb", id="an IPv4 address"),
    pytest.param(V6, 80, b"\x04 \x01\x0d\xb8" + bytes(11) + b"\x07\x00\x50", id="an IPv6 address"),
    pytest.param(MAPPED, 1, b"\x04" + bytes(10) + b"\xff\xff\x7f\x00\x00\x01\x00\x01", id="an IPv4-mapped one stays"),
    pytest.param(b"a.test", 65535, b"\x03\x06a.test\xff\xff", id="a domain"),
    pytest.param(b"", 0, b"\x03\x00\x00\x00", id="an empty domain and port 0 are for others to judge"),
    pytest.param(b"a\x00\xff\r\n", 9, b"\x03\x05a\x00\xff\r\n\x00\x09", id="a domain is bytes, whatever they are"),
    pytest.param(b"a" * 255, 9, b"\x03\xff" + b"a" * 255 + b"\x00\x09", id="the longest domain"),
]

HOSTS: st.SearchStrategy[bytes | IPAddress] = st.one_of(
    st.ip_addresses(v=4), st.ip_addresses(v=6), st.binary(max_size=LONGEST_DOMAIN)
)
PORTS = st.integers(0, 65535)


@pytest.mark.parametrize(("host", "port", "wire"), WRITTEN)
def test_an_address_is_written_and_read(host: bytes | IPAddress, port: int, wire: bytes) -> None:
    assert write_target(host, port) == wire
    assert read_target(wire) == (Target(host, port), len(wire))


@pytest.mark.parametrize(("host", "port", "wire"), WRITTEN)
def test_an_address_is_read_only_when_it_is_complete(host: bytes | IPAddress, port: int, wire: bytes) -> None:
    assert [read_target(wire[:size]) for size in range(len(wire))] == [None] * len(wire)


@pytest.mark.parametrize("kind", [0, 2, 5, 255])
def test_an_unknown_type_is_told_at_its_first_byte(kind: int) -> None:
    with pytest.raises(UnknownAddressType, match=f"address type {kind}"):
        read_target(bytes((kind,)))


def test_a_zone_is_not_written() -> None:
    assert write_target(IPv6Address("fe80::1%lo"), 5) == write_target(IPv6Address("fe80::1"), 5)


def test_what_has_no_room_in_the_format_is_not_written() -> None:
    with pytest.raises(ValueError, match="range"):
        write_target(b"a" * (LONGEST_DOMAIN + 1), 80)
    with pytest.raises(OverflowError):
        write_target(V4, 65536)


@given(host=HOSTS, port=PORTS, before=st.binary(max_size=8), after=st.binary(max_size=8))
def test_every_address_comes_back_from_wherever_it_stands(
    host: bytes | IPAddress, port: int, before: bytes, after: bytes
) -> None:
    wire = write_target(host, port)
    assert read_target(memoryview(before + wire + after), len(before)) == (Target(host, port), len(before + wire))


@given(data=st.binary(max_size=300), start=st.integers(0, 3))
def test_no_bytes_break_the_reader(data: bytes, start: int) -> None:
    try:
        read = read_target(bytearray(data), start)
    except UnknownAddressType:
        assert data[start] not in (1, 3, 4)
        return
    if read is not None:
        target, end = read
        assert write_target(target.host, target.port) == data[start:end]
