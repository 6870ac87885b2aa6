"""Hosts with a port, ports, and what came as bytes (spec A2.1; A is a row of the security cases)."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.hosts import (
    Endpoint,
    Host,
    parse_endpoint,
    parse_port,
    parse_wire_endpoint,
    parse_wire_host,
)

ENDPOINTS = [
    pytest.param("example.com:1234", "example.com:1234", id="a name and a port"),
    pytest.param("ExAmPlE.CoM.:443", "example.com:443", id="a name with a trailing dot and a port (B2.1)"),
    pytest.param("[::1]:443", "[::1]:443", id="IPv6 and a port (B2.1)"),
    pytest.param("[::FFFF:127.0.0.1]:443", "127.0.0.1:443", id="mapped IPv4 loses its brackets"),
    pytest.param("[fe80::1%25lo0]:443", "[fe80::1%25lo0]:443", id="a zone and a port"),
    pytest.param("127.1:80", "127.0.0.1:80", id="a short address and a port"),
    pytest.param("example.com:1", "example.com:1", id="the first port"),
    pytest.param("example.com:65535", "example.com:65535", id="the last port"),
    pytest.param("example.com", "example.com:8080", id="the default port"),
    pytest.param("[::1]", "[::1]:8080", id="IPv6 and the default port"),
]

PORT, COLON, STRAY = "port is not a number", "more than one colon", "stray text"
EMPTY, BRACKETS = "host is empty", "brackets that do not enclose"

REFUSED_ENDPOINTS = [
    pytest.param("evil.test:443.allowed.test", PORT, id="a port that goes on as a name (A24)"),
    pytest.param("allowed.test:443:evil.test", COLON, id="a name after the port (A24)"),
    pytest.param("::1:443", COLON, id="IPv6 with a port and no brackets has two readings"),
    pytest.param("2001:db8::1", COLON, id="IPv6 without brackets"),
    pytest.param("[allowed.test]:443", BRACKETS, id="brackets around a name (A23)"),
    pytest.param("[[denied.test]]:443", STRAY, id="doubled brackets (A23)"),
    pytest.param("[denied.test.]:443", BRACKETS, id="brackets around a name with a dot (A23)"),
    pytest.param("[::1]443", STRAY, id="no colon after brackets"),
    pytest.param("[::1].evil.test:443", STRAY, id="a name after brackets"),
    pytest.param("[::1:443", BRACKETS, id="no closing bracket"),
    pytest.param("x[::1]:443", COLON, id="text before brackets"),
    pytest.param("user@allowed.test:443", "U+0040", id="user-info"),
    pytest.param(":443", EMPTY, id="no host"),
    pytest.param("", EMPTY, id="nothing"),
    pytest.param("allowed.test:", PORT, id="a colon and no port"),
    pytest.param("[::1]:", PORT, id="brackets, a colon and no port"),
]

REFUSED_PORTS = [
    pytest.param("0", id="zero"),
    pytest.param("65536", id="above the last port"),
    pytest.param("99999", id="five nines"),
    pytest.param("100000", id="six digits"),
    pytest.param("-1", id="a minus sign"),
    pytest.param("+80", id="a plus sign"),
    pytest.param("080", id="a leading zero"),
    pytest.param(" 80", id="a space in front"),
    pytest.param("80 ", id="a space at the end"),
    pytest.param("80\n", id="a line feed"),
    pytest.param("8_0", id="an underscore"),
    pytest.param("0x50", id="hexadecimal"),
    pytest.param("80.0", id="a fraction"),
    pytest.param("http", id="a service name"),
    pytest.param("", id="nothing"),
    pytest.param("\uff18\uff10", id="full-width digits"),
    pytest.param("9" * 5000, id="five thousand digits"),
]


@pytest.mark.parametrize(("text", "canonical"), ENDPOINTS)
def test_an_endpoint_has_one_spelling(text: str, canonical: str) -> None:
    assert str(parse_endpoint(text, 8080)) == canonical


@pytest.mark.parametrize(("text", "reason"), REFUSED_ENDPOINTS)
def test_an_ambiguous_endpoint_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidHost) as refusal:
        parse_endpoint(text, 443)
    assert reason in str(refusal.value)


def test_an_endpoint_without_port_and_without_default_is_refused() -> None:
    with pytest.raises(InvalidHost, match="port is missing"):
        parse_endpoint("example.com")


@pytest.mark.parametrize("text", REFUSED_PORTS)
def test_only_plain_decimal_ports_are_ports(text: str) -> None:
    with pytest.raises(InvalidHost, match="port is not a number from 1 to 65535"):
        parse_port(text)


def test_a_wire_host_is_utf_8() -> None:
    assert parse_wire_host("b\u00fccher.test".encode()) == Host("xn--bcher-kva.test")
    assert parse_wire_endpoint(b"Example.com:443") == Endpoint(Host("example.com"), 443)
    assert parse_wire_endpoint(b"example.com", 80) == Endpoint(Host("example.com"), 80)


@pytest.mark.parametrize("raw", [b"b\xfccher.test", b"\xff", b"\xc0\xae.test", b"\xed\xa0\x80.test"])
def test_other_bytes_from_the_wire_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidHost, match="not UTF-8"):
        parse_wire_host(raw)
    with pytest.raises(InvalidHost, match="not UTF-8"):
        parse_wire_endpoint(raw, 443)
