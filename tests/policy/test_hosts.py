"""One canonical spelling for every host and port (spec A2.1, B2.1; A and B are rows of the security cases)."""

from __future__ import annotations

import sys
from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.hosts import (
    Host,
    parse_endpoint,
    parse_host,
)

LONGEST_LABEL = "a" * 63
LONGEST_NAME = ".".join([LONGEST_LABEL] * 3 + ["b" * 61])
FULL_WIDTH_127 = "\uff11\uff12\uff17"

NAMES = [
    pytest.param("example.com", "example.com", id="a plain name stays"),
    pytest.param("ExAmPlE.CoM", "example.com", id="upper case is lowered"),
    pytest.param("DENIED.Test", "denied.test", id="mixed case is lowered (A07)"),
    pytest.param("example.com.", "example.com", id="one trailing dot goes (A07)"),
    pytest.param("ExAmPlE.CoM...", "example.com", id="all trailing dots go (A07)"),
    pytest.param("LOCALHOST.", "localhost", id="localhost in capitals with a dot (B01)"),
    pytest.param("localhost", "localhost", id="a single label"),
    pytest.param("a", "a", id="a single letter"),
    pytest.param("foo_bar.sub.test", "foo_bar.sub.test", id="an underscore is allowed (A20)"),
    pytest.param("_dmarc.sub.test", "_dmarc.sub.test", id="an underscore in front is allowed (A20)"),
    pytest.param("r3---sn-4g5.example.com", "r3---sn-4g5.example.com", id="hyphens in third and fourth place"),
    pytest.param("-a-.example.com", "-a-.example.com", id="hyphens at the ends of a label, as resolvers take them"),
    pytest.param("1.example.com", "1.example.com", id="a numeric label that is not the last"),
    pytest.param("3com.4you", "3com.4you", id="a last label that begins with a digit"),
    pytest.param("0xcafe.com", "0xcafe.com", id="a hexadecimal label that is not the last"),
    pytest.param("a.0xg", "a.0xg", id="a last label that is almost hexadecimal"),
    pytest.param(f"{LONGEST_LABEL}.test", f"{LONGEST_LABEL}.test", id="a label of 63 bytes"),
    pytest.param(LONGEST_NAME, LONGEST_NAME, id="a name of 253 bytes"),
    pytest.param(LONGEST_NAME + ".", LONGEST_NAME, id="a name of 253 bytes and a trailing dot"),
    pytest.param("b\u00fccher.test", "xn--bcher-kva.test", id="Unicode becomes punycode (A16)"),
    pytest.param("B\u00dcCHER.test", "xn--bcher-kva.test", id="Unicode capitals are lowered"),
    pytest.param("bu\u0308cher.test", "xn--bcher-kva.test", id="a combining mark is composed"),
    pytest.param("xn--bcher-kva.test", "xn--bcher-kva.test", id="punycode stays (A16)"),
    pytest.param("XN--BCHER-KVA.Test", "xn--bcher-kva.test", id="punycode in capitals is lowered"),
    pytest.param("a.xn--bcher-kva", "a.xn--bcher-kva", id="punycode in the last label"),
    pytest.param("fa\u00df.de", "xn--fa-hia.de", id="the sharp s is kept: not transitional"),
    pytest.param("\u2603.net", "xn--n3h.net", id="a symbol that UTS 46 allows"),
    pytest.param("xn--n3h.net", "xn--n3h.net", id="the same symbol in punycode"),
    pytest.param("\uff41\uff42\uff43.test", "abc.test", id="full-width letters are letters"),
    pytest.param("\u212aube.test", "kube.test", id="the Kelvin sign is the letter k"),
    pytest.param("denied\u3002test", "denied.test", id="an ideographic full stop is a dot (A14)"),
    pytest.param("denied\uff0etest", "denied.test", id="a full-width full stop is a dot (A14)"),
    pytest.param("denied\uff61test", "denied.test", id="a half-width full stop is a dot (A14)"),
    pytest.param("denied.test\u3002", "denied.test", id="a trailing ideographic full stop goes (A14)"),
    pytest.param("den\u00adied.test", "denied.test", id="a soft hyphen is nothing"),
    pytest.param("den\u200bied.test", "denied.test", id="a zero-width space is nothing"),
    pytest.param("\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.test", "xn--mgba3gch31f060k.test", id="a joiner in place"),
]

LITERALS = [
    pytest.param("127.0.0.1", "127.0.0.1", id="a dotted quad stays"),
    pytest.param("127.0.0.1.", "127.0.0.1", id="a dotted quad with a trailing dot"),
    pytest.param("255.255.255.255", "255.255.255.255", id="the last dotted quad"),
    pytest.param("127.1", "127.0.0.1", id="two numbers (B03)"),
    pytest.param("127.0.1", "127.0.0.1", id="three numbers (B03)"),
    pytest.param("10.1.65535", "10.1.255.255", id="three numbers, the last of two bytes"),
    pytest.param("0x7f.1", "127.0.0.1", id="hexadecimal and short (B03)"),
    pytest.param("0x7f.0.0.1", "127.0.0.1", id="hexadecimal (B03)"),
    pytest.param("0X7F.0.0.1", "127.0.0.1", id="hexadecimal in capitals (B03)"),
    pytest.param("0177.0.0.1", "127.0.0.1", id="octal (B03)"),
    pytest.param("127.0.0.01", "127.0.0.1", id="octal in the last number (B03)"),
    pytest.param("2130706433", "127.0.0.1", id="one decimal number (B03)"),
    pytest.param("0x7f000001", "127.0.0.1", id="one hexadecimal number (B03)"),
    pytest.param("017700000001", "127.0.0.1", id="one octal number (B03)"),
    pytest.param("4294967295", "255.255.255.255", id="the largest number"),
    pytest.param("0", "0.0.0.0", id="zero (B02)"),
    pytest.param("00", "0.0.0.0", id="octal zero (B02)"),
    pytest.param(f"{FULL_WIDTH_127}.0.0.1", "127.0.0.1", id="full-width digits (B03)"),
    pytest.param("127\u30020\u30020\u30021", "127.0.0.1", id="ideographic full stops (A14)"),
    pytest.param("2001:db8::1", "2001:db8::1", id="IPv6 without brackets"),
    pytest.param("[2001:db8::1]", "2001:db8::1", id="IPv6 in brackets"),
    pytest.param("[::1]", "::1", id="IPv6 loopback in brackets"),
    pytest.param("[::]", "::", id="the unspecified IPv6 address (B02)"),
    pytest.param("2001:DB8:0:0:0:0:0:1", "2001:db8::1", id="IPv6 is compressed and lowered"),
    pytest.param("::ffff:127.0.0.1", "127.0.0.1", id="mapped IPv4 is shown as IPv4 (B07)"),
    pytest.param("[::FFFF:a9fe:a9fe]", "169.254.169.254", id="mapped IPv4 in hexadecimal (B07)"),
    pytest.param("[::ffff:10.0.0.1]", "10.0.0.1", id="mapped private IPv4 (B07)"),
    pytest.param("[::ffff:8.8.8.8]", "8.8.8.8", id="mapped public IPv4 (B07)"),
    pytest.param("::127.0.0.1", "::7f00:1", id="compatible IPv4 stays IPv6 (B08)"),
    pytest.param("[64:ff9b::7f00:1]", "64:ff9b::7f00:1", id="NAT64 stays IPv6 (B09)"),
]

ZONES = [
    pytest.param("fe80::1%lo0", "fe80::1", "lo0", id="a zone without brackets (B2.1)"),
    pytest.param("[fe80::1%lo0]", "fe80::1", "lo0", id="a zone in brackets"),
    pytest.param("[fe80::1%25lo0]", "fe80::1", "lo0", id="an escaped zone in brackets (B12)"),
    pytest.param("FE80::1%Eth0", "fe80::1", "Eth0", id="interfaces are case-sensitive"),
    pytest.param("[::1%lo]", "::1", "lo", id="a zone on loopback (B12)"),
    pytest.param("fe80::1%2", "fe80::1", "2", id="an interface number"),
    pytest.param("fe80::1%25", "fe80::1", "25", id="without brackets nothing is an escape"),
    pytest.param("[fe80::1%2525]", "fe80::1", "25", id="in brackets 25 is the escape"),
]

EMPTY, LABEL, CHARACTER, BRACKETS = "host is empty", "an empty label", "a character", "brackets that do not enclose"
IPV6, ZONE, PUNYCODE, IDNA = "valid IPv6", "IPv6 zone", "malformed punycode", "IDNA does not allow"
IPV4, NUMBER = "is not a valid IPv4 address", "ends in a number"

REFUSED = [
    pytest.param("", EMPTY, id="nothing"),
    pytest.param(".", EMPTY, id="a dot"),
    pytest.param("...", EMPTY, id="dots"),
    pytest.param("\u3002", EMPTY, id="an ideographic full stop"),
    pytest.param("\u200b", EMPTY, id="a zero-width space"),
    pytest.param(".sub.test", LABEL, id="an empty label in front (A04)"),
    pytest.param("..sub.test", LABEL, id="two empty labels in front (A04)"),
    pytest.param("a..sub.test", LABEL, id="an empty label inside (A04)"),
    pytest.param("a.\u200b.test", LABEL, id="a label of nothing visible (A04)"),
    pytest.param("a" * 64 + ".test", "longer than 63", id="a label of 64 bytes"),
    pytest.param("\u00fc" * 60 + ".test", "longer than 63", id="a Unicode label of more than 63 bytes"),
    pytest.param("a" + LONGEST_NAME, "longer than", id="a name of 254 bytes"),
    pytest.param("a." * 126 + "ab", "longer than 253", id="a name of 254 bytes in short labels"),
    pytest.param("a" * 1025, "too long", id="more text than any name has"),
    pytest.param("\u200b" * 1025 + "a", "too long", id="more text than any name has, nearly all invisible"),
    pytest.param("evil.test%00.sub.test", CHARACTER, id="an escaped NUL (A12)"),
    pytest.param("%64enied.test", CHARACTER, id="a percent escape"),
    pytest.param("evil.test\x00.sub.test", "U+0000", id="a NUL (A13)"),
    pytest.param("api.github.com\n.evil.test", "U+000A", id="a line feed inside (A29)"),
    pytest.param("allowed.test\n", "U+000A", id="a line feed at the end (A29)"),
    pytest.param("127.0.0.1\n", "U+000A", id="a line feed after an address (A29)"),
    pytest.param("allowed.test\r\nHost:evil.test", IPV6, id="a header in the host (A13)"),
    pytest.param("allowed.test\r\nX", "U+000D", id="a line end in the host (A13)"),
    pytest.param("allowed.test\x7f", "U+007F", id="DEL (A13)"),
    pytest.param("allowed\t.test", "U+0009", id="a tab (A13)"),
    pytest.param(" allowed.test", "U+0020", id="a space in front (A13)"),
    pytest.param("allowed.test ", "U+0020", id="a space at the end (A13)"),
    pytest.param("allowed.test\u00a0", "U+0020", id="a no-break space"),
    pytest.param("b\u00fc cher.test", "U+0020", id="a space in a Unicode label"),
    pytest.param("b\u00fc\x00cher.test", "U+0000", id="a NUL in a Unicode label"),
    pytest.param("user@allowed.test", "U+0040", id="user-info"),
    pytest.param("evil.test/.allowed.test", "U+002F", id="a slash"),
    pytest.param("evil.test\uff0fallowed.test", "U+002F", id="a full-width slash"),
    pytest.param("evil.test\\.allowed.test", "U+005C", id="a backslash"),
    pytest.param("evil.test#.allowed.test", "U+0023", id="a hash"),
    pytest.param("evil.test?.allowed.test", "U+003F", id="a question mark"),
    pytest.param('"allowed.test"', "U+0022", id="quotes"),
    pytest.param("<allowed.test>", "U+003C", id="angle brackets"),
    pytest.param("*.allowed.test", "U+002A", id="an asterisk"),
    pytest.param("\uff0a.allowed.test", "U+002A", id="a full-width asterisk"),
    pytest.param("allowed.test:443", IPV6, id="a port where only a host may stand"),
    pytest.param("allowed.test\uff1a443", "U+003A", id="a full-width colon"),
    pytest.param("http://x", IPV6, id="a URL"),
    pytest.param("\ud800.test", IDNA, id="half of a surrogate pair"),
    pytest.param("xn--a.test", IDNA, id="punycode of a control character (A17)"),
    pytest.param("xn--.test", PUNYCODE, id="punycode of nothing (A17)"),
    pytest.param("xn--a-.test", PUNYCODE, id="punycode of plain ASCII (A17)"),
    pytest.param("xn--99999999.test", PUNYCODE, id="punycode that does not decode (A17)"),
    pytest.param("xn--bcher-kva-.test", PUNYCODE, id="punycode that ends in a hyphen (A17)"),
    pytest.param("xn--tda.xn--a--.test", PUNYCODE, id="malformed punycode after good (A17)"),
    pytest.param("xn--pokxncvks-.test", PUNYCODE, id="punycode with nothing after its hyphen (A17)"),
    pytest.param(f"xn--{'\u00dc'.encode('punycode').decode()}.test", PUNYCODE, id="punycode of a capital (A17)"),
    pytest.param("xn---bbk.test", PUNYCODE, id="a second spelling of the same punycode (A17)"),
    pytest.param(f"xn--{'xn--\u00fc'.encode('punycode').decode()}.test", IDNA, id="the prefix inside punycode (A17)"),
    pytest.param("xn--b\u00fccher.test", IDNA, id="the prefix on a Unicode label"),
    pytest.param("\u0308a.test", IDNA, id="a label that begins with a combining mark"),
    pytest.param("a\u200cb.test", IDNA, id="a joiner where none belongs"),
    pytest.param("a\u05d0.test", IDNA, id="right-to-left letters in a left-to-right label"),
    pytest.param("[allowed.test]", BRACKETS, id="brackets around a name (A23)"),
    pytest.param("[denied.test.]", BRACKETS, id="brackets around a name with a dot (A23)"),
    pytest.param("[127.0.0.1]", BRACKETS, id="brackets around IPv4"),
    pytest.param("[[denied.test]]", BRACKETS, id="doubled brackets around a name (A23)"),
    pytest.param("[[::1]]", IPV6, id="doubled brackets around IPv6 (A23)"),
    pytest.param("[::1", BRACKETS, id="no closing bracket (B2.1)"),
    pytest.param("::1]", IPV6, id="no opening bracket"),
    pytest.param("[::1].", BRACKETS, id="a dot after brackets"),
    pytest.param("[]", BRACKETS, id="empty brackets"),
    pytest.param("allowed[.]test", "U+005B", id="brackets inside a name"),
    pytest.param("1::2::3", IPV6, id="two compressions"),
    pytest.param("12345::1", IPV6, id="a group of five digits"),
    pytest.param("::ffff:127.1", IPV6, id="a short IPv4 address in IPv6"),
    pytest.param("::\uff11", IPV6, id="full-width digits in IPv6"),
    pytest.param("[::ffff:1.2.3.4%x.sub.test]", ZONE, id="a zone on a mapped address (B12)"),
    pytest.param("[::ffff:1.2.3.4%lo]", ZONE, id="an interface on a mapped address (B12)"),
    pytest.param("[fe80::1%x.sub.test]", ZONE, id="a zone that ends like an allowed name (B12)"),
    pytest.param("fe80::1%", ZONE, id="an empty zone"),
    pytest.param("[fe80::1%25]", ZONE, id="an empty escaped zone"),
    pytest.param("fe80::1%a\n", ZONE, id="a line feed in a zone"),
    pytest.param("fe80::1%a%b", ZONE, id="two zones"),
    pytest.param("fe80::1%interface-name-x", ZONE, id="a zone longer than an interface name"),
    pytest.param("fe80::1%l\u00f60", ZONE, id="a Unicode zone"),
    pytest.param("127.0.0.1%lo", CHARACTER, id="a zone on IPv4"),
    pytest.param("allowed.test%lo", CHARACTER, id="a zone on a name"),
    pytest.param("256.1.1.1", IPV4, id="a number above 255"),
    pytest.param("1.2.3.256", IPV4, id="a last number above 255"),
    pytest.param("1.2.65536", IPV4, id="a last number above two bytes"),
    pytest.param("1.16777216", IPV4, id="a last number above three bytes"),
    pytest.param("4294967296", IPV4, id="a number above four bytes"),
    pytest.param("1.2.3.4.5", IPV4, id="five numbers"),
    pytest.param("1.2.3.4.0", IPV4, id="five numbers, the last of them zero"),
    pytest.param("0.0.0.0.0x7f", IPV4, id="five numbers, one hexadecimal"),
    pytest.param("127.0.0.08", NUMBER, id="eight is no octal digit"),
    pytest.param("a.1", NUMBER, id="a name that ends in a number"),
    pytest.param("a.0x1f", NUMBER, id="a name that ends in a hexadecimal number"),
    pytest.param("0x", NUMBER, id="a hexadecimal number without digits"),
    pytest.param("1..2", LABEL, id="an address with an empty number"),
]


@pytest.mark.parametrize(("text", "canonical"), NAMES)
def test_a_name_has_one_spelling(text: str, canonical: str) -> None:
    assert parse_host(text) == Host(canonical)


@pytest.mark.parametrize(("text", "canonical"), LITERALS)
def test_an_address_has_one_spelling(text: str, canonical: str) -> None:
    assert parse_host(text) == Host(canonical, ip_address(canonical))


@pytest.mark.parametrize(("text", "address", "zone"), ZONES)
def test_a_zone_is_kept_and_the_address_stays_plain(text: str, address: str, zone: str) -> None:
    assert parse_host(text) == Host(f"{address}%{zone}", ip_address(address), zone)


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_has_no_canonical_form_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidHost) as refusal:
        parse_host(text)
    assert reason in str(refusal.value)


def test_a_host_knows_how_it_is_written_in_an_authority() -> None:
    assert parse_host("::1").bracketed == "[::1]"
    assert parse_host("fe80::1%lo0").bracketed == "[fe80::1%25lo0]"
    assert parse_host("127.0.0.1").bracketed == "127.0.0.1"
    assert str(parse_host("Example.com")) == "example.com"


def test_a_host_knows_whether_it_is_a_literal() -> None:
    assert parse_host("127.1").is_literal
    assert parse_host("[::1]").is_literal
    assert not parse_host("localhost").is_literal


def test_the_caches_are_bounded() -> None:
    assert parse_host.cache_info().maxsize == 4096
    assert parse_endpoint.cache_info().maxsize == 4096


def test_without_the_idna_package_an_international_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    with pytest.raises(InvalidHost, match="the package idna must be installed"):
        parse_host("nicht-installiert-bücher.test")
    assert parse_host("without-idna.test").text == "without-idna.test"
