from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from codex_network_proxy.addons.socks_targets import endpoint_of
from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.socks.addressing import IPAddress, Target


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        pytest.param(b"a.test", "a.test:443", id="a name"),
        pytest.param(b"API.Example.COM.", "api.example.com:443", id="case and the final dot"),
        pytest.param(b"xn--bcher-kva.test", "xn--bcher-kva.test:443", id="an A-label"),
        pytest.param(b"127.0.0.1", "127.0.0.1:443", id="a name that is an IPv4 literal"),
        pytest.param(b"127.1", "127.0.0.1:443", id="a short spelling of one"),
        pytest.param(b"2130706433", "127.0.0.1:443", id="a number"),
        pytest.param(b"0x7f.0.0.1", "127.0.0.1:443", id="in hexadecimal"),
        pytest.param(b"::1", "[::1]:443", id="a name that is an IPv6 literal"),
        pytest.param(b"[::1]", "[::1]:443", id="in brackets"),
        pytest.param(b"::ffff:10.0.0.1", "10.0.0.1:443", id="a name that is an IPv4-mapped literal"),
        pytest.param(IPv4Address("192.0.2.7"), "192.0.2.7:443", id="an IPv4 address"),
        pytest.param(IPv6Address("2001:DB8::7"), "[2001:db8::7]:443", id="an IPv6 address"),
        pytest.param(IPv6Address("::ffff:10.0.0.1"), "10.0.0.1:443", id="an IPv4-mapped address"),
    ],
)
def test_every_spelling_means_one_endpoint(host: bytes | IPAddress, canonical: str) -> None:
    assert str(endpoint_of(Target(host, 443))) == canonical


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [
        pytest.param(b"", 443, "host is empty", id="no name"),
        pytest.param(b".", 443, "host is empty", id="only a dot"),
        pytest.param(b"attacker\x00.google.com", 443, r"U\+0000", id="NUL"),
        pytest.param(b"a.test\r\nb", 443, r"U\+000D", id="a line end"),
        pytest.param(b"a\tb.test", 443, r"U\+0009", id="a tab"),
        pytest.param(b"a\x7f.test", 443, r"U\+007F", id="DEL"),
        pytest.param(b"a b.test", 443, r"U\+0020", id="a space"),
        pytest.param("bücher.test".encode(), 443, "not ASCII", id="UTF-8"),
        pytest.param(b"b\xfccher.test", 443, "not ASCII", id="Latin-1"),
        pytest.param(b"\xff", 443, "not ASCII", id="no text at all"),
        pytest.param(b"user@a.test", 443, r"U\+0040", id="user-info"),
        pytest.param(b"a.test/x", 443, r"U\+002F", id="a path"),
        pytest.param(b"a%2etest", 443, r"U\+0025", id="an escape"),
        pytest.param(b"a.test:80", 443, "IPv6", id="a port in the name"),
        pytest.param(b"a..test", 443, "empty label", id="an empty label"),
        pytest.param(b"a" * 64 + b".test", 443, "longer than 63", id="a long label"),
        pytest.param(b"a." * 127 + b"a", 443, "longer than 253", id="a long name"),
        pytest.param(b"1.2.3.4.5", 443, "IPv4", id="too many numbers"),
        pytest.param(b"a.test", 0, "port", id="port 0"),
        pytest.param(IPv4Address("192.0.2.7"), 0, "port", id="port 0 of an address"),
    ],
)
def test_what_has_no_canonical_form_is_refused(host: bytes | IPAddress, port: int, why: str) -> None:
    with pytest.raises(InvalidHost, match=why):
        endpoint_of(Target(host, port))
