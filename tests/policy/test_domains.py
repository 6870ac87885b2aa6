"""Which hosts a list of patterns matches (spec A2.2-A2.4, B2.5, B2.6, B3.3; A and B are rows of the security cases)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.domains import DomainPattern, PatternSet, parse_pattern
from codex_network_proxy.policy.hosts import parse_endpoint, parse_host


def patterns(*texts: str) -> PatternSet:
    return PatternSet(parse_pattern(text) for text in texts)


def text_of(pattern: DomainPattern | None) -> str | None:
    return None if pattern is None else pattern.text


MATCHING = [
    pytest.param("Example.COM.", "example.com", id="an exact entry in odd spelling (B2.5)"),
    pytest.param("example.com", "EXAMPLE.COM", id="a host in capitals (B2.5)"),
    pytest.param("denied.test", "DENIED.TEST.", id="a trailing dot does not hide a host (A07)"),
    pytest.param("denied.test", "denied.test..", id="two trailing dots do not hide a host (A07)"),
    pytest.param("Denied.TEST.", "denied.test", id="nor in the entry (A08)"),
    pytest.param("denied.test", "denied\u3002test", id="an ideographic full stop does not hide a host (A14)"),
    pytest.param("denied.test", "denied\uff0etest", id="a full-width full stop does not hide a host (A14)"),
    pytest.param("denied.test", "denied\uff61test\uff61", id="a half-width full stop does not hide a host (A14)"),
    pytest.param("b\u00fccher.test", "xn--bcher-kva.test", id="punycode against a Unicode entry (A16)"),
    pytest.param("xn--bcher-kva.test", "B\u00dcCHER.test", id="Unicode against a punycode entry (A16, over B2.5)"),
    pytest.param("*.Example.COM.", "api.example.com", id="a subdomain (B2.5)"),
    pytest.param("*.openai.com", "a.b.c.openai.com", id="a subdomain at any depth (B2.5)"),
    pytest.param("*.sub.test", "foo_bar.sub.test", id="a subdomain with an underscore (A20)"),
    pytest.param("*.sub.test", "xn--bcher-kva.sub.test", id="a subdomain in punycode"),
    pytest.param("**.openai.com", "openai.com", id="the apex of a tree (B2.5)"),
    pytest.param("**.Example.COM.", "api.example.com", id="a subdomain in a tree (B2.5)"),
    pytest.param("**.sub.test", "sub.test", id="the apex, allowed by two stars only (A02)"),
    pytest.param("*.localhost", "foo.localhost", id="a subdomain of localhost"),
    pytest.param("region*.v2.argotunnel.com", "region1.v2.argotunnel.com", id="a star in a label (B2.5)"),
    pytest.param("region*.v2.argotunnel.com", "region.v2.argotunnel.com", id="a star for nothing (B2.5)"),
    pytest.param("*example.com", "example.com", id="a leading star for nothing (B2.5)"),
    pytest.param("*example.com", "evilexample.com", id="a leading star in the same label (B2.5)"),
    pytest.param("api-*-eu.example.com", "api-1-2-eu.example.com", id="a star inside a label"),
    pytest.param("a*b*c.example.com", "a1b2c.example.com", id="two stars in a label"),
    pytest.param("a*b*c.example.com", "abbc.example.com", id="two stars find their literals in turn"),
    pytest.param("db.eu-*.example.com", "db.eu-1.example.com", id="a literal label left of the star"),
    pytest.param("db*.eu-*.example.com", "db1.eu-2.example.com", id="stars in two labels"),
    pytest.param("db*.eu-*.example.com", "db.eu-.example.com", id="stars in two labels for nothing"),
    pytest.param("x*.b\u00fccher.test", "x1.xn--bcher-kva.test", id="a star left of a Unicode label"),
    pytest.param("[::1]", "::1", id="IPv6 in brackets (B2.5)"),
    pytest.param("::1", "[0:0::1]", id="IPv6 in another spelling"),
    pytest.param("127.0.0.1", "127.1", id="IPv4 in another spelling (B03)"),
    pytest.param("127.0.0.1", "[::ffff:7f00:1]", id="IPv4 in mapped spelling (B07)"),
    pytest.param("::ffff:10.0.0.0/104", "10.1.2.3", id="a range of mapped addresses covers IPv4"),
    pytest.param("10.0.0.0/8", "10.1.2.3", id="a CIDR range covers a literal (A2.3)"),
    pytest.param("0.0.0.0/0", "255.255.255.255", id="a CIDR range of everything"),
    pytest.param("fd00::/8", "fd12::1", id="an IPv6 CIDR range"),
    pytest.param("10.0.0.1/32", "10.0.0.1", id="a CIDR range of one address"),
    pytest.param("fe80::1%lo0", "[fe80::1%25lo0]", id="the same zone (B2.5)"),
]

NOT_MATCHING = [
    pytest.param("Example.COM.", "api.example.com", id="a subdomain of an exact entry (B2.5)"),
    pytest.param("example.com", "not-example.com", id="a longer name (B2.5)"),
    pytest.param("allowed.test", "allowed.testx", id="a longer ending (A06)"),
    pytest.param("allowed.test", "xallowed.test", id="a longer beginning (A06)"),
    pytest.param("allowed.test", "allowed-test", id="a dot is a dot"),
    pytest.param("allowed.test", "test", id="a part of an entry"),
    pytest.param("*.sub.test", "evilsub.test", id="no dot before the suffix (A01)"),
    pytest.param("*.openai.com", "evilopenai.com", id="no dot before the suffix, again (B2.5)"),
    pytest.param("*.sub.test", "sub.test", id="the apex of subdomains (A02)"),
    pytest.param("*.Example.COM.", "example.com", id="the apex of subdomains (B2.5)"),
    pytest.param("*.openai.com", "openai.com.evil.net", id="a longer name behind the suffix (B2.5)"),
    pytest.param("**.openai.com", "evilopenai.com", id="no dot before a tree (B2.5)"),
    pytest.param("**.openai.com", "com", id="above a tree"),
    pytest.param("region*.v2.argotunnel.com", "xregion1.v2.argotunnel.com", id="text before a label (B2.5)"),
    pytest.param("region*.v2.argotunnel.com", "foo.region1.v2.argotunnel.com", id="a label more (B2.5)"),
    pytest.param("region*.v2.argotunnel.com", "region1.x.v2.argotunnel.com", id="a star crosses no dot"),
    pytest.param("region*.v2.argotunnel.com", "v2.argotunnel.com", id="a label less"),
    pytest.param("*example.com", "a.example.com", id="a leading star crosses no dot (A2.2 over B2.5)"),
    pytest.param("*example.com", "example.com.evil", id="a longer ending (B2.5)"),
    pytest.param("aba*ba.example.com", "aba.example.com", id="the two ends of a label do not overlap"),
    pytest.param("a*b*c.example.com", "acb.example.com", id="the ends stand at the ends"),
    pytest.param("a*b*c.example.com", "axxc.example.com", id="what stands between two stars is needed"),
    pytest.param("a*bc*c.example.com", "abc.example.com", id="what stands between two stars is not the end"),
    pytest.param("db.eu-*.example.com", "eu-1.example.com", id="a literal label is needed"),
    pytest.param("db.eu-*.example.com", "dc.eu-1.example.com", id="a literal label is compared"),
    pytest.param("db*.eu-*.example.com", "dc1.eu-2.example.com", id="a second label with a star is compared"),
    pytest.param("db*.eu-*.example.com", "x.db1.eu-2.example.com", id="a label more than two with stars"),
    pytest.param("db*.eu-*.example.com", "eu-2.example.com", id="a label less than two with stars"),
    pytest.param("127.0.0.1", "127.0.0.2", id="the next address (B16)"),
    pytest.param("127.0.0.1", "localhost", id="localhost is not 127.0.0.1 (B3.3)"),
    pytest.param("localhost", "127.0.0.1", id="127.0.0.1 is not localhost (B3.3)"),
    pytest.param("localhost", "foo.localhost", id="a subdomain of localhost (B01)"),
    pytest.param("10.0.0.0/8", "11.0.0.0", id="outside a CIDR range"),
    pytest.param("10.0.0.0/8", "10.evil.com", id="a name that begins like a CIDR range (B2.5)"),
    pytest.param("::/0", "10.0.0.1", id="IPv4 in a range of all IPv6"),
    pytest.param("0.0.0.0/0", "::1", id="IPv6 in a range of all IPv4"),
    pytest.param("0.0.0.0/0", "example.com", id="a name in a range of everything"),
    pytest.param("*.sub.test", "::1", id="an address against a wildcard"),
    pytest.param("fe80::1%lo0", "fe80::1%lo1", id="another zone (B2.5)"),
    pytest.param("fe80::1%lo0", "fe80::1", id="no zone (B2.5)"),
    pytest.param("fe80::1", "fe80::1%lo0", id="a zone that the entry does not name (B12)"),
    pytest.param("fe80::/10", "fe80::1%lo0", id="a zone against a CIDR range (B12)"),
    pytest.param("::1", "[::1%lo]", id="loopback with a zone (B12)"),
    pytest.param("10.0.0.1", "::10.0.0.1", id="compatible IPv4 in the narrow reading"),
]

DENIED = [
    pytest.param("fd00::1", "fd00::1%eth0", id="an address covers its zones (B2.5)"),
    pytest.param("fd00::1", "[fd00::1%eth0]", id="an address covers its zones in brackets (B2.5)"),
    pytest.param("fd00::1", "[fd00::1%25eth0]", id="an address covers its escaped zones (B2.5)"),
    pytest.param("fd00::/8", "fd00::1%eth0", id="a CIDR range covers zones"),
    pytest.param("fe80::1%lo0", "fe80::1%lo0", id="a zone covers itself"),
    pytest.param("fd00::1", "fd00::1", id="an address covers itself"),
    pytest.param("10.0.0.0/8", "10.1.2.3", id="a CIDR range covers its addresses"),
    pytest.param("10.0.0.0/8", "::10.1.2.3", id="a CIDR range covers compatible addresses"),
    pytest.param("10.0.0.0/8", "::ffff:10.1.2.3", id="a CIDR range covers mapped addresses"),
    pytest.param("10.0.0.1", "64:ff9b::10.0.0.1", id="an address covers its NAT64 form"),
    pytest.param("10.0.0.1", "2002:a00:1::5", id="an address covers its 6to4 form"),
    pytest.param("64:ff9b::/96", "64:ff9b::10.0.0.1", id="a NAT64 range covers itself"),
    pytest.param("denied.test", "denied.test", id="a name covers itself"),
]

NOT_DENIED = [
    pytest.param("fe80::1%lo0", "fe80::1%lo1", id="a zone does not cover another (B2.5)"),
    pytest.param("fe80::1%lo0", "fe80::1", id="a zone does not cover the address (B2.5)"),
    pytest.param("denied.test", "allowed.test", id="a name does not cover another"),
    pytest.param("10.0.0.1", "64:ff9b::10.0.0.2", id="an address does not cover the NAT64 form of another"),
    pytest.param("0.0.0.0/8", "::1", id="IPv6 loopback is not a compatible address"),
]

PORTS = [
    pytest.param("example.com", "example.com:443", True, id="no port means every port"),
    pytest.param("example.com:8443", "example.com:8443", True, id="the port (A2.2 over B2.5)"),
    pytest.param("example.com:8443", "example.com:443", False, id="another port"),
    pytest.param("*.example.com:443", "a.example.com:443", True, id="subdomains on the port"),
    pytest.param("*.example.com:443", "a.example.com:80", False, id="subdomains on another port"),
    pytest.param("**.example.com:443", "example.com:80", False, id="the apex on another port"),
    pytest.param("eu*.example.com:443", "eu1.example.com:443", True, id="a star in a label on the port"),
    pytest.param("eu*.example.com:443", "eu1.example.com:80", False, id="a star in a label on another port"),
    pytest.param("127.0.0.1:80", "127.0.0.1:80", True, id="an address on the port"),
    pytest.param("127.0.0.1:80", "127.0.0.1:81", False, id="an address on another port (B16)"),
    pytest.param("[::1]:80", "[::1]:81", False, id="IPv6 on another port"),
    pytest.param("10.0.0.0/8:80", "10.1.2.3:80", True, id="a CIDR range on the port"),
    pytest.param("10.0.0.0/8:80", "10.1.2.3:443", False, id="a CIDR range on another port"),
]

LITERAL = [
    pytest.param("127.0.0.1", "127.0.0.1:80", "127.0.0.1", id="an equal address"),
    pytest.param("127.0.0.1", "127.1:80", "127.0.0.1", id="an equal address in another spelling"),
    pytest.param("::1", "[::1]:80", "::1", id="an equal IPv6 address"),
    pytest.param("10.0.0.0/8", "10.0.0.1:80", "10.0.0.0/8", id="a CIDR range around it"),
    pytest.param("localhost", "LOCALHOST.:80", "localhost", id="the name localhost"),
    pytest.param("fe80::1%lo0", "[fe80::1%25lo0]:80", "fe80::1%lo0", id="an equal address with its zone"),
    pytest.param("localhost:80", "localhost:80", "localhost:80", id="localhost on the port"),
    pytest.param("localhost:80", "localhost:81", None, id="localhost on another port"),
    pytest.param("127.0.0.1:80", "127.0.0.1:81", None, id="an equal address on another port"),
    pytest.param("127.0.0.1", "127.0.0.2:80", None, id="the next address (B16)"),
    pytest.param("10.0.0.0/8", "11.0.0.1:80", None, id="outside a CIDR range"),
    pytest.param("fe80::1", "[fe80::1%25lo0]:80", None, id="a zone that the entry does not name"),
    pytest.param("localhost", "127.0.0.1:80", None, id="localhost does not open 127.0.0.1 (B3.3)"),
    pytest.param("127.0.0.1", "localhost:80", None, id="127.0.0.1 does not open localhost (B3.3)"),
    pytest.param("**.localhost", "localhost:80", None, id="a wildcard is no explicit entry (B3.3)"),
    pytest.param("*.localhost", "foo.localhost:80", None, id="a subdomain of localhost is a name (B3.3)"),
    pytest.param("foo.localhost", "foo.localhost:80", None, id="an exact name is no local literal (B3.3)"),
    pytest.param("*ocalhost.test", "localhost:80", None, id="a star in a label is no explicit entry"),
    pytest.param("example.com", "example.com:80", None, id="an ordinary name is no local literal"),
    pytest.param("*.example.com", "10.0.0.1:80", None, id="a wildcard does not open an address"),
]

RESOLVED = [
    pytest.param("10.0.0.0/8", "10.0.0.1", "10.0.0.0/8", id="a CIDR range covers a resolved address (A2.3)"),
    pytest.param("203.0.113.7", "203.0.113.7", "203.0.113.7", id="an address covers a resolved one"),
    pytest.param("fd00::/8", "fd00::1", "fd00::/8", id="an IPv6 range covers a resolved address"),
    pytest.param("fe80::/10", "fe80::1%2", "fe80::/10", id="the scope of a resolved address is no matter"),
    pytest.param("10.0.0.0/8", "::ffff:10.0.0.1", "10.0.0.0/8", id="a mapped resolved address is IPv4"),
    pytest.param("10.0.0.0/8", "64:ff9b::a00:1", "10.0.0.0/8", id="a NAT64 resolved address stands for IPv4"),
    pytest.param("10.0.0.0/8:443", "10.0.0.1", "10.0.0.0/8:443", id="a range on the port"),
    pytest.param("10.0.0.0/8:80", "10.0.0.1", None, id="a range on another port"),
    pytest.param("10.0.0.0/8", "11.0.0.1", None, id="outside a range"),
    pytest.param("10.0.0.0/8", "2606:4700::1", None, id="plain IPv6 in an IPv4 range"),
    pytest.param("fe80::1%eth0", "fe80::1", None, id="an entry with a zone covers no resolved address"),
    pytest.param("denied.test", "10.0.0.1", None, id="a name covers no address"),
]

COVERING = [
    pytest.param("d.test", "d.test", True, id="a host covers itself (B2.6)"),
    pytest.param("d.test", "c.d.test", False, id="a host does not cover a subdomain (B2.6)"),
    pytest.param("d.test", "*.d.test", False, id="a host does not cover subdomains (B2.6)"),
    pytest.param("d.test", "**.d.test", False, id="a host does not cover a tree (B2.6)"),
    pytest.param("*.d.test", "c.d.test", True, id="subdomains cover a subdomain (B2.6)"),
    pytest.param("*.d.test", "d.test", False, id="subdomains do not cover the apex (B2.6)"),
    pytest.param("*.d.test", "*.d.test", True, id="subdomains cover themselves (B2.6)"),
    pytest.param("*.d.test", "*.c.d.test", True, id="subdomains cover deeper ones (B2.6)"),
    pytest.param("*.d.test", "**.d.test", False, id="subdomains do not cover a tree with its apex (B2.6)"),
    pytest.param("*.d.test", "**.c.d.test", True, id="subdomains cover a deeper tree (B2.6)"),
    pytest.param("**.d.test", "d.test", True, id="a tree covers its apex (B2.6)"),
    pytest.param("**.d.test", "*.d.test", True, id="a tree covers its subdomains (B2.6)"),
    pytest.param("**.d.test", "**.d.test", True, id="a tree covers itself (B2.6)"),
    pytest.param("**.d.test", "**.c.d.test", True, id="a tree covers a deeper tree (B2.6)"),
    pytest.param("**.c.d.test", "**.d.test", False, id="a tree does not cover what is above"),
    pytest.param("*.d.test", "eu*.d.test", True, id="subdomains cover a star in a label"),
    pytest.param("eu*.d.test", "eu*.d.test", True, id="a star in a label covers itself"),
    pytest.param("eu*.d.test", "eu1.d.test", True, id="a star in a label covers a host"),
    pytest.param("eu*.d.test", "*.eu1.d.test", False, id="a star in a label does not cover subdomains"),
    pytest.param("e*.d.test", "eu*.d.test", False, id="two different stars are not compared"),
    pytest.param("10.0.0.0/8", "10.1.0.0/16", True, id="a range covers a narrower one"),
    pytest.param("10.0.0.0/8", "10.0.0.1", True, id="a range covers an address"),
    pytest.param("10.1.0.0/16", "10.0.0.0/8", False, id="a range does not cover a wider one"),
    pytest.param("10.0.0.0/16", "10.0.0.0/8", False, id="nor a wider one with the same beginning"),
    pytest.param("fe80::1%lo0", "fe80::1%lo0", True, id="a zone covers itself"),
    pytest.param("fe80::1", "fe80::1%lo0", False, id="an address does not cover a zone"),
    pytest.param("d.test", "d.test:443", True, id="every port covers one"),
    pytest.param("d.test:443", "d.test:443", True, id="a port covers itself"),
    pytest.param("d.test:443", "d.test", False, id="one port does not cover every port"),
    pytest.param("d.test:443", "d.test:80", False, id="one port does not cover another"),
]


@pytest.mark.parametrize(("entry", "host"), MATCHING)
def test_an_entry_matches(entry: str, host: str) -> None:
    assert patterns(entry).match(parse_host(host), 443) == parse_pattern(entry)


@pytest.mark.parametrize(("entry", "host"), NOT_MATCHING)
def test_an_entry_does_not_match(entry: str, host: str) -> None:
    assert patterns(entry).match(parse_host(host), 443) is None


@pytest.mark.parametrize(("entry", "host"), [*DENIED, *MATCHING])
def test_a_deny_entry_covers_every_spelling(entry: str, host: str) -> None:
    assert patterns(entry).match_deny(parse_host(host), 443) == parse_pattern(entry)


@pytest.mark.parametrize(("entry", "host"), NOT_DENIED)
def test_a_deny_entry_covers_nothing_else(entry: str, host: str) -> None:
    assert patterns(entry).match_deny(parse_host(host), 443) is None


@pytest.mark.parametrize(("entry", "target", "matches"), PORTS)
def test_a_port_in_an_entry_is_meant(entry: str, target: str, matches: bool) -> None:
    endpoint = parse_endpoint(target)
    expected = parse_pattern(entry) if matches else None
    assert patterns(entry).match(endpoint.host, endpoint.port) == expected
    assert patterns(entry).match_deny(endpoint.host, endpoint.port) == expected


def test_a_port_of_one_entry_does_not_hide_an_entry_for_every_port() -> None:
    both = patterns("a.test:443", "*.test", "10.0.0.1:443", "10.0.0.0/8", "localhost:443", "localhost")
    assert text_of(both.match(parse_host("a.test"), 443)) == "a.test:443"
    assert text_of(both.match(parse_host("a.test"), 80)) == "*.test"
    assert text_of(both.match(parse_host("b.test"), 443)) == "*.test"
    assert text_of(both.match_address(ip_address("10.0.0.2"), 443)) == "10.0.0.0/8"
    assert text_of(both.literal_entry(parse_host("localhost"), 80)) == "localhost"


@pytest.mark.parametrize(("entry", "target", "expected"), LITERAL)
def test_an_explicit_local_entry_is_never_a_wildcard(entry: str, target: str, expected: str | None) -> None:
    endpoint = parse_endpoint(target)
    assert text_of(patterns(entry).literal_entry(endpoint.host, endpoint.port)) == expected


@pytest.mark.parametrize(("entry", "address", "expected"), RESOLVED)
def test_a_deny_entry_covers_resolved_addresses(entry: str, address: str, expected: str | None) -> None:
    assert text_of(patterns(entry).match_address(ip_address(address), 443)) == expected


@pytest.mark.parametrize(("wide", "narrow", "covered"), COVERING)
def test_one_entry_covers_another(wide: str, narrow: str, covered: bool) -> None:
    assert (patterns(wide).covering(parse_pattern(narrow)) is not None) is covered


def test_a_tree_and_its_subdomains_in_one_list_are_the_tree() -> None:
    for texts in (("*.a.test", "**.a.test"), ("**.a.test", "*.a.test")):
        both = patterns(*texts)
        assert text_of(both.match(parse_host("a.test"), 443)) == "**.a.test"
        assert both.match(parse_host("x.a.test"), 443) is not None


def test_an_empty_list_matches_nothing() -> None:
    nothing = PatternSet()
    assert len(nothing) == 0
    assert nothing.match(parse_host("allowed.test"), 443) is None
    assert nothing.match_deny(parse_host("127.0.0.1"), 443) is None
    assert nothing.literal_entry(parse_host("localhost"), 443) is None


def test_a_list_keeps_its_order_and_drops_what_is_said_twice() -> None:
    twice = patterns("b.test", "a.test", "B.TEST.", "a.test:443")
    assert [pattern.text for pattern in twice] == ["b.test", "a.test", "a.test:443"]
    assert len(twice) == 3
