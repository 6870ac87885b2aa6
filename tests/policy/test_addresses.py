"""What an address is, and what `allow_local_binding` opens (spec A3, B3.1)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_network_proxy.policy.addresses import (
    AddressClass,
    address_text,
    classify,
    embedded_ipv4,
    opened_by_local_binding,
    unmapped,
)
from codex_network_proxy.policy.hosts import parse_host

C = AddressClass

RANGES = [
    pytest.param("0.0.0.0/8", C.UNSPECIFIED, id="this network is unspecified (B02)"),
    pytest.param("10.0.0.0/8", C.PRIVATE, id="ten is private"),
    pytest.param("100.64.0.0/10", C.PRIVATE, id="shared address space is private"),
    pytest.param("127.0.0.0/8", C.LOOPBACK, id="all of 127 is loopback (B01)"),
    pytest.param("169.254.0.0/16", C.LINK_LOCAL, id="169.254 is link-local"),
    pytest.param("172.16.0.0/12", C.PRIVATE, id="172.16 to 172.31 are private"),
    pytest.param("192.0.0.0/24", C.RESERVED, id="protocol assignments are reserved (B11)"),
    pytest.param("192.0.2.0/24", C.RESERVED, id="documentation range one is reserved (B11)"),
    pytest.param("192.88.99.0/24", C.RESERVED, id="the 6to4 relay anycast is reserved (B11)"),
    pytest.param("192.168.0.0/16", C.PRIVATE, id="192.168 is private"),
    pytest.param("198.18.0.0/15", C.RESERVED, id="benchmarking is reserved (B11)"),
    pytest.param("198.51.100.0/24", C.RESERVED, id="documentation range two is reserved (B11)"),
    pytest.param("203.0.113.0/24", C.RESERVED, id="documentation range three is reserved (B11)"),
    pytest.param("224.0.0.0/4", C.MULTICAST, id="IPv4 multicast (B11)"),
    pytest.param("240.0.0.0/4", C.RESERVED, id="class E and broadcast are reserved (B11)"),
    pytest.param("::/128", C.UNSPECIFIED, id="the IPv6 unspecified address (B02)"),
    pytest.param("::1/128", C.LOOPBACK, id="the IPv6 loopback address"),
    pytest.param("::ffff:0:0:0/96", C.TRANSLATED, id="SIIT is never public (B08)"),
    pytest.param("64:ff9b::/96", C.TRANSLATED, id="NAT64 is never public (B09)"),
    pytest.param("64:ff9b:1::/48", C.TRANSLATED, id="local-use NAT64 is never public (B09)"),
    pytest.param("100::/64", C.RESERVED, id="the discard prefix is reserved (B11)"),
    pytest.param("2001::/32", C.TRANSLATED, id="Teredo is never public"),
    pytest.param("2001:100::/24", C.RESERVED, id="IPv6 protocol assignments are reserved"),
    pytest.param("2001:2::/48", C.RESERVED, id="IPv6 benchmarking is reserved"),
    pytest.param("2001:10::/28", C.RESERVED, id="ORCHID is reserved"),
    pytest.param("2001:20::/28", C.RESERVED, id="ORCHIDv2 is reserved"),
    pytest.param("2001:db8::/32", C.RESERVED, id="IPv6 documentation is reserved (B11)"),
    pytest.param("2002::/16", C.TRANSLATED, id="6to4 is never public"),
    pytest.param("3fff::/20", C.RESERVED, id="the newer IPv6 documentation range is reserved (B11)"),
    pytest.param("4000::/3", C.RESERVED, id="IPv6 that nobody has been given is reserved"),
    pytest.param("5f00::/16", C.RESERVED, id="segment routing is reserved (B11)"),
    pytest.param("fc00::/7", C.PRIVATE, id="unique local IPv6 is private (B11)"),
    pytest.param("fe80::/10", C.LINK_LOCAL, id="fe80 is link-local (B11)"),
    pytest.param("fec0::/10", C.PRIVATE, id="site-local IPv6 is private (B11)"),
    pytest.param("ff00::/8", C.MULTICAST, id="IPv6 multicast (B11)"),
]

SINGLE = [
    pytest.param("127.255.255.254", C.LOOPBACK, id="the end of loopback (B01)"),
    pytest.param("0.1.2.3", C.UNSPECIFIED, id="inside this network (B02)"),
    pytest.param("224.0.0.251", C.MULTICAST, id="multicast DNS (B11)"),
    pytest.param("255.255.255.255", C.RESERVED, id="broadcast (B11)"),
    pytest.param("192.0.0.8", C.RESERVED, id="a protocol assignment (B11)"),
    pytest.param("169.254.169.254", C.METADATA, id="the metadata address of most clouds"),
    pytest.param("169.254.169.253", C.LINK_LOCAL, id="next to the metadata address"),
    pytest.param("169.254.170.2", C.METADATA, id="container credentials"),
    pytest.param("169.254.170.23", C.METADATA, id="pod credentials"),
    pytest.param("100.100.100.200", C.METADATA, id="metadata inside shared address space"),
    pytest.param("168.63.129.16", C.METADATA, id="metadata inside public space"),
    pytest.param("168.63.129.17", C.PUBLIC, id="next to it is public"),
    pytest.param("192.0.0.192", C.METADATA, id="metadata inside protocol assignments"),
    pytest.param("fd00:ec2::254", C.METADATA, id="metadata inside unique local IPv6"),
    pytest.param("fd00:ec2::23", C.METADATA, id="pod credentials over IPv6"),
    pytest.param("fd00:ec2::253", C.PRIVATE, id="next to the IPv6 metadata address"),
    pytest.param("fd20:ce::254", C.METADATA, id="a second IPv6 metadata address"),
    pytest.param("fd00:42::42", C.METADATA, id="a third IPv6 metadata address"),
    pytest.param("::ffff:127.0.0.1", C.LOOPBACK, id="mapped loopback is loopback (B07)"),
    pytest.param("::ffff:10.0.0.1", C.PRIVATE, id="mapped private is private (B07)"),
    pytest.param("::ffff:a9fe:a9fe", C.METADATA, id="mapped metadata is metadata (B07)"),
    pytest.param("::ffff:8.8.8.8", C.PUBLIC, id="mapped public is public (B07)"),
    pytest.param("::127.0.0.1", C.LOOPBACK, id="compatible loopback is loopback (B08)"),
    pytest.param("::10.0.0.1", C.PRIVATE, id="compatible private is private (B08)"),
    pytest.param("::169.254.169.254", C.METADATA, id="compatible metadata is metadata"),
    pytest.param("::2", C.UNSPECIFIED, id="compatible 0.0.0.2 is unspecified"),
    pytest.param("::8.8.8.8", C.PUBLIC, id="compatible public is judged by its IPv4 address"),
    pytest.param("::ffff:0:127.0.0.1", C.TRANSLATED, id="SIIT loopback (B08)"),
    pytest.param("::ffff:0:8.8.8.8", C.TRANSLATED, id="SIIT public is not public"),
    pytest.param("64:ff9b::7f00:1", C.TRANSLATED, id="NAT64 loopback (B09)"),
    pytest.param("64:ff9b::a9fe:a9fe", C.METADATA, id="NAT64 metadata is metadata (B09)"),
    pytest.param("64:ff9b::8.8.8.8", C.TRANSLATED, id="NAT64 public is not public"),
    pytest.param("64:ff9b:1::a00:1", C.TRANSLATED, id="local-use NAT64 private (B09)"),
    pytest.param("64:ff9b:1::a9fe:a9fe", C.METADATA, id="local-use NAT64 metadata is metadata"),
    pytest.param("2002:7f00:1::1", C.TRANSLATED, id="6to4 loopback"),
    pytest.param("2002:a9fe:a9fe::1", C.METADATA, id="6to4 metadata is metadata"),
    pytest.param("2002:808:808::1", C.TRANSLATED, id="6to4 public is not public"),
    pytest.param("2001:0:4136:e378:8000:63bf:80ff:fffe", C.TRANSLATED, id="Teredo to loopback"),
    pytest.param("2001:0:4136:e378:8000:63bf:5601:5601", C.METADATA, id="Teredo to metadata is metadata"),
    pytest.param("fe80::1%lo0", C.LINK_LOCAL, id="a zone does not change the class (B12)"),
    pytest.param("::1%lo", C.LOOPBACK, id="loopback with a zone is loopback (B12)"),
    pytest.param("8.8.8.8", C.PUBLIC, id="a public IPv4 address"),
    pytest.param("100.63.255.255", C.PUBLIC, id="below shared address space"),
    pytest.param("172.32.0.0", C.PUBLIC, id="above the private block"),
    pytest.param("2606:4700::1111", C.PUBLIC, id="a public IPv6 address"),
    pytest.param("2001:4860:4860::8888", C.PUBLIC, id="public IPv6 next to Teredo"),
    pytest.param("3ffe::1", C.PUBLIC, id="IPv6 below the documentation range"),
]

OPENED = [
    pytest.param(C.LOOPBACK, True, id="local binding opens loopback"),
    pytest.param(C.PRIVATE, True, id="local binding opens private addresses"),
    pytest.param(C.METADATA, False, id="local binding never opens metadata"),
    pytest.param(C.LINK_LOCAL, False, id="local binding does not open link-local, where clouds keep credentials"),
    pytest.param(C.MULTICAST, False, id="local binding does not open multicast"),
    pytest.param(C.UNSPECIFIED, False, id="local binding does not open the unspecified address"),
    pytest.param(C.RESERVED, False, id="local binding does not open reserved addresses"),
    pytest.param(C.TRANSLATED, False, id="local binding does not open translated addresses"),
    pytest.param(C.PUBLIC, False, id="public addresses need no opening"),
]

EMBEDDED = [
    pytest.param("::ffff:10.0.0.1", "10.0.0.1", id="mapped"),
    pytest.param("::10.0.0.1", "10.0.0.1", id="compatible"),
    pytest.param("::ffff:0:10.0.0.1", "10.0.0.1", id="SIIT"),
    pytest.param("64:ff9b::10.0.0.1", "10.0.0.1", id="NAT64"),
    pytest.param("64:ff9b:1::10.0.0.1", "10.0.0.1", id="local-use NAT64"),
    pytest.param("2002:a00:1::9", "10.0.0.1", id="6to4"),
    pytest.param("2001:0:4136:e378:8000:63bf:f5ff:fffe", "10.0.0.1", id="Teredo, the client"),
    pytest.param("::", None, id="the unspecified address stands for itself"),
    pytest.param("::1", None, id="loopback stands for itself"),
    pytest.param("2606:4700::1", None, id="plain IPv6 has none"),
    pytest.param("10.0.0.1", None, id="IPv4 has none"),
]

UNMAPPED = [
    pytest.param("::ffff:10.0.0.1", "10.0.0.1", id="mapped becomes IPv4"),
    pytest.param("10.0.0.1", "10.0.0.1", id="IPv4 stays"),
    pytest.param("fe80::1%eth0", "fe80::1", id="the zone goes"),
    pytest.param("::10.0.0.1", "::a00:1", id="compatible stays IPv6"),
]


@pytest.mark.parametrize(("network", "expected"), RANGES)
def test_a_range_has_one_class_from_its_first_to_its_last_address(network: str, expected: AddressClass) -> None:
    span = ip_network(network)
    first, last = span[0], span[-1]
    assert (classify(first), classify(last)) == (expected, expected)


@pytest.mark.parametrize(("address", "expected"), SINGLE)
def test_an_address_has_its_class(address: str, expected: AddressClass) -> None:
    assert classify(ip_address(address)) is expected


@pytest.mark.parametrize("spelling", ["127.1", "0x7f.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "0x7f000001"])
def test_every_spelling_of_loopback_is_judged_as_loopback(spelling: str) -> None:
    address = parse_host(spelling).address
    assert address is not None
    assert classify(address) is C.LOOPBACK


@pytest.mark.parametrize(("kind", "opened"), OPENED)
def test_local_binding_opens_private_and_loopback_only(kind: AddressClass, opened: bool) -> None:
    assert opened_by_local_binding(kind) is opened


def test_every_class_has_an_answer_for_local_binding() -> None:
    assert {row.values[0] for row in OPENED} == set(AddressClass)


@pytest.mark.parametrize(("address", "inside"), EMBEDDED)
def test_the_ipv4_address_inside_an_ipv6_address(address: str, inside: str | None) -> None:
    assert embedded_ipv4(ip_address(address)) == (inside and IPv4Address(inside))


@pytest.mark.parametrize(("address", "plain"), UNMAPPED)
def test_the_plain_form_of_an_address(address: str, plain: str) -> None:
    assert str(unmapped(ip_address(address))) == plain


@settings(deadline=None)
@given(st.ip_addresses())
def test_what_the_standard_library_calls_local_is_never_public(address: IPv4Address | IPv6Address) -> None:
    judged = embedded_ipv4(address) or address
    if judged.is_private or judged.is_loopback or judged.is_multicast or judged.is_reserved:
        assert classify(address) is not C.PUBLIC


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_a_mapped_address_has_the_class_of_its_ipv4_address(address: IPv4Address) -> None:
    assert classify(IPv6Address((0xFFFF << 32) + int(address))) is classify(address)


@settings(deadline=None)
@given(st.ip_addresses(v=4), st.sampled_from(["64:ff9b::", "::ffff:0:0:0", "64:ff9b:1::"]))
def test_a_translated_address_is_never_public(address: IPv4Address, prefix: str) -> None:
    assert classify(IPv6Address(int(IPv6Address(prefix)) + int(address))) in (C.TRANSLATED, C.METADATA)


@pytest.mark.parametrize("text", ["192.0.2.7", "2001:db8::1", "fe80::1%lo0"])
def test_an_address_is_written_as_it_was_read(text: str) -> None:
    assert address_text(ip_address(text)) == text
    assert address_text(ip_address(text)) == text, "also when it is remembered"
