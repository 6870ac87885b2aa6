from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_network_proxy.socks.addressing import LONGEST_DOMAIN, IPAddress, Target
from codex_network_proxy.socks.datagrams import Dropped, header_of, header_size, header_target, names_an_address

V4 = IPv4Address("192.0.2.7")
V6 = IPv6Address("2001:db8::7")

WRITTEN = [
    pytest.param(V4, 53, b"\0\0\0\x01\xc0\x00\x02\x07\x00\x35", id="an IPv4 address"),
    pytest.param(V6, 443, b"\0\0\0\x04 \x01\x0d\xb8" + bytes(11) + b"\x07\x01\xbb", id="an IPv6 address"),
    pytest.param(b"a.test", 53, b"\0\0\0\x03\x06a.test\x00\x35", id="a domain"),
    pytest.param(b"", 0, b"\0\0\0\x03\0\0\0", id="an empty domain and port 0 are for others to judge"),
    pytest.param(b"a\0\xff", 9, b"\0\0\0\x03\x03a\0\xff\0\x09", id="a domain is bytes, whatever they are"),
    pytest.param(b"a" * 255, 9, b"\0\0\0\x03\xff" + b"a" * 255 + b"\0\x09", id="the longest domain"),
]

BAD = [
    pytest.param(b"", Dropped.TRUNCATED, id="nothing at all"),
    pytest.param(b"\0\0\0", Dropped.TRUNCATED, id="no type of address"),
    pytest.param(b"\0\0\0\x01\x7f\0\0\x01\0", Dropped.TRUNCATED, id="IPv4 without the last byte of its port"),
    pytest.param(b"\0\0\0\x04" + bytes(17), Dropped.TRUNCATED, id="IPv6 without the last byte of its port"),
    pytest.param(b"\0\0\0\x03", Dropped.TRUNCATED, id="a domain without its length"),
    pytest.param(b"\0\0\0\x03\x05abc\0\x35", Dropped.TRUNCATED, id="a domain that is shorter than it says"),
    pytest.param(b"\x01\0\0\x01\x7f\0\0\x01\0\x35", Dropped.RESERVED, id="the first reserved byte is set"),
    pytest.param(b"\0\x01\0\x01\x7f\0\0\x01\0\x35", Dropped.RESERVED, id="the second reserved byte is set"),
    pytest.param(b"\0\0\x01\x01\x7f\0\0\x01\0\x35", Dropped.FRAGMENT, id="the first fragment"),
    pytest.param(b"\0\0\x81\x01\x7f\0\0\x01\0\x35", Dropped.FRAGMENT, id="the last fragment"),
    pytest.param(b"\0\0\0\0\x7f\0\0\x01\0\x35", Dropped.ADDRESS_TYPE, id="address type 0"),
    pytest.param(b"\0\0\0\x02\x7f\0\0\x01\0\x35", Dropped.ADDRESS_TYPE, id="address type 2"),
    pytest.param(b"\0\0\0\xff\x7f\0\0\x01\0\x35", Dropped.ADDRESS_TYPE, id="address type 255"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", Dropped.RESERVED, id="something else entirely"),
]

HOSTS: st.SearchStrategy[bytes | IPAddress] = st.one_of(
    st.ip_addresses(v=4), st.ip_addresses(v=6), st.binary(max_size=LONGEST_DOMAIN)
)


@pytest.mark.parametrize(("host", "port", "wire"), WRITTEN)
def test_a_header_is_written_and_read(host: bytes | IPAddress, port: int, wire: bytes) -> None:
    assert header_of(host, port) == wire
    assert header_size(wire + b"payload") == len(wire)
    assert header_size(wire) == len(wire), "a datagram may be empty"
    assert header_target(wire) == Target(host, port)
    assert names_an_address(wire) == (not isinstance(host, bytes))


@pytest.mark.parametrize(("host", "port", "wire"), WRITTEN)
def test_a_header_is_read_only_when_it_is_whole(host: bytes | IPAddress, port: int, wire: bytes) -> None:
    assert {header_size(wire[:size]) for size in range(len(wire))} == {Dropped.TRUNCATED}


@pytest.mark.parametrize(("data", "why"), BAD)
def test_a_datagram_that_is_dropped(data: bytes, why: Dropped) -> None:
    assert header_size(data) is why


@given(HOSTS, st.integers(0, 65535), st.binary(max_size=64))
def test_where_a_header_ends_does_not_depend_on_the_payload(host: bytes | IPAddress, port: int, payload: bytes) -> None:
    header = header_of(host, port)
    assert header_size(memoryview(header + payload)) == len(header)
    assert header_target(header) == Target(host, port)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda tail: b"\0\0\0" + tail)))
def test_any_bytes_are_read_or_dropped(data: bytes) -> None:
    size = header_size(data)
    if not isinstance(size, Dropped):
        target = header_target(data[:size])
        assert header_of(target.host, target.port) == data[:size]
