"""One canonical spelling for every host and port (spec A2.1).

A host is parsed here once, at the edge. Everything behind the edge matches, dials, logs and injects `Host.text`,
and never compares text from the wire.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from .decision import IPAddress
from .errors import InvalidHost

_CACHED = 4096
_LONGEST_INPUT = 1024
_LONGEST_NAME = 253
_LONGEST_LABEL = 63
_ACE_PREFIX = "xn--"

_PLAIN_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z_][a-z0-9_-]{0,62}")
_DOTTED_QUAD = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")
_FORBIDDEN = re.compile(r"[^a-z0-9._\x80-\U0010ffff-]")
_ENDS_IN_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ZONE = re.compile(r"[A-Za-z0-9_-]{1,15}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
# The three notations of inet_aton(3), which getaddrinfo(3) and so every client follows.
_NOTATIONS = ((re.compile(r"0x[0-9a-f]+"), 16), (re.compile(r"0[0-7]*"), 8), (re.compile(r"[1-9][0-9]*"), 10))


@dataclass(frozen=True, slots=True)
class Host:
    """A canonical host: a name of A-labels in lower case, or an IP literal.

    `text` is the only spelling that is ever matched: `api.example.com`, `127.0.0.1`, `::1`, `fe80::1%lo0`.
    `address` is set for literals only, without the zone.
    """

    text: str
    # Both follow from the text; hashing an address alone costs as much as looking a name up.
    address: IPAddress | None = field(default=None, hash=False)
    zone: str | None = field(default=None, hash=False)

    @property
    def is_literal(self) -> bool:
        return self.address is not None

    @property
    def bracketed(self) -> str:
        """As it stands in an authority: IPv6 in brackets, the zone after `%25` (RFC 6874)."""
        return f"[{self.text.replace('%', '%25')}]" if ":" in self.text else self.text

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and the port on it, 1 to 65535."""

    host: Host
    port: int

    def __hash__(self) -> int:
        return hash((self.host.text, self.port))

    def __str__(self) -> str:
        return f"{self.host.bracketed}:{self.port}"


@lru_cache(_CACHED)
def parse_host(text: str) -> Host:
    """The canonical form of a host without a port; IPv6 with or without brackets.

    Raises `InvalidHost` for whatever has no canonical form. Nothing is trimmed or guessed.
    """
    if text.isascii() and len(text) <= _LONGEST_NAME:
        plain = text.lower()
        if _PLAIN_NAME.fullmatch(plain) and _ACE_PREFIX not in plain:
            return Host(plain)
        if _DOTTED_QUAD.fullmatch(plain):
            return Host(plain, IPv4Address(plain))
    return _parse_unusual(text)


@lru_cache(_CACHED)
def parse_endpoint(text: str, default_port: int | None = None) -> Endpoint:
    """`host`, `host:port` or `[ipv6]:port`, as an authority spells them (RFC 3986 section 3.2).

    Raises `InvalidHost`, also when there is neither a port nor a default, and for IPv6 without brackets: `::1:443`
    has two readings.
    """
    name, colon, port = _split_port(text)
    host = parse_host(name)
    if colon:
        return Endpoint(host, parse_port(port))
    if default_port is None:
        raise InvalidHost("port is missing")
    return Endpoint(host, default_port)


def parse_port(text: str) -> int:
    """1 to 65535, in decimal digits without sign or leading zeros. Raises `InvalidHost`."""
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise InvalidHost("port is not a number from 1 to 65535")
    return int(text)


def parse_wire_host(raw: bytes) -> Host:
    """`parse_host` for bytes from the wire, which are UTF-8 or `InvalidHost`."""
    return parse_host(_from_wire(raw))


def parse_wire_endpoint(raw: bytes, default_port: int | None = None) -> Endpoint:
    """`parse_endpoint` for bytes from the wire, which are UTF-8 or `InvalidHost`."""
    return parse_endpoint(_from_wire(raw), default_port)


def _from_wire(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidHost("host is not UTF-8") from None


def _split_port(text: str) -> tuple[str, str, str]:
    if text.startswith("["):
        inner, closing, rest = text.partition("]")
        if rest and not rest.startswith(":"):
            raise InvalidHost("host has stray text after its brackets")
        return inner + closing, rest[:1], rest[1:]
    if text.count(":") > 1:
        raise InvalidHost("host has more than one colon; an IPv6 address needs brackets")
    return text.partition(":")


def _parse_unusual(text: str) -> Host:
    if len(text) > _LONGEST_INPUT:
        raise InvalidHost("host is too long")
    if text.startswith("["):
        return _parse_bracketed(text)
    if ":" in text:
        return _parse_ipv6(*text.partition("%"))
    return _parse_name(text)


def _parse_bracketed(text: str) -> Host:
    if not text.endswith("]") or ":" not in text:
        raise InvalidHost("host has brackets that do not enclose an IPv6 address")
    literal, percent, zone = text[1:-1].partition("%")
    # Inside brackets RFC 6874 spells the percent sign `%25`; a bare one is common and means the same.
    return _parse_ipv6(literal, percent, zone.removeprefix("25"))


def _parse_ipv6(literal: str, percent: str, zone: str) -> Host:
    try:
        address = IPv6Address(literal)
    except ValueError:
        raise InvalidHost("host is not a valid IPv6 address") from None
    if percent and (address.ipv4_mapped or not _ZONE.fullmatch(zone)):
        raise InvalidHost("host has an IPv6 zone that is not an interface")
    if percent:
        return Host(f"{address}%{zone}", address, zone)
    canonical = address.ipv4_mapped or address
    return Host(str(canonical), canonical)


def _parse_name(text: str) -> Host:
    # Lower case first: `str.lower` on other than ASCII text is not the mapping that IDNA defines.
    labels = (text.lower() if text.isascii() else _map(text)).rstrip(".").split(".")
    if labels == [""]:
        raise InvalidHost("host is empty")
    labels = [_a_label(label) for label in labels]
    name = ".".join(labels)
    if len(name) > _LONGEST_NAME:
        raise InvalidHost(f"host is longer than {_LONGEST_NAME} bytes")
    if _ENDS_IN_NUMBER.fullmatch(labels[-1]):
        address = _parse_ipv4(labels)
        return Host(str(address), address)
    return Host(name)


def _parse_ipv4(labels: list[str]) -> IPv4Address:
    """What inet_aton(3) reads: one to four numbers, the last of which fills the bytes that are left."""
    *leading, last = [_parse_number(label) for label in labels]
    if len(leading) > 3 or any(number > 255 for number in leading) or last >= 256 ** (4 - len(leading)):
        raise InvalidHost("host is not a valid IPv4 address")
    for position, number in enumerate(leading):
        last += number << (24 - 8 * position)
    return IPv4Address(last)


def _parse_number(label: str) -> int:
    for notation, base in _NOTATIONS:
        if notation.fullmatch(label):
            return int(label, base)
    raise InvalidHost("host ends in a number and is not a valid IPv4 address")


def _a_label(label: str) -> str:
    if not label:
        raise InvalidHost("host has an empty label")
    if forbidden := _FORBIDDEN.search(label):
        raise InvalidHost(f"host has a character that no name has: U+{ord(forbidden.group()):04X}")
    if label.isascii():
        encoded = label
    else:
        _check_u_label(label)
        encoded = _ACE_PREFIX + label.encode("punycode").decode("ascii")
    if len(encoded) > _LONGEST_LABEL:
        raise InvalidHost(f"host has a label longer than {_LONGEST_LABEL} bytes")
    if encoded is label and label.startswith(_ACE_PREFIX):
        _check_punycode(label.removeprefix(_ACE_PREFIX))
    return encoded


def _check_punycode(encoded: str) -> None:
    """Refuses an A-label that is not the one spelling of a valid U-label (UTS 46 section 4)."""
    try:
        decoded = encoded.encode("ascii").decode("punycode")
    except ValueError:
        raise InvalidHost("host has malformed punycode") from None
    if decoded.isascii() or _map(decoded) != decoded or decoded.encode("punycode").decode("ascii") != encoded:
        raise InvalidHost("host has malformed punycode")
    _check_u_label(decoded)


def _check_u_label(label: str) -> None:
    """The validity criteria of UTS 46 section 4.1 that the mapping leaves open."""
    # `idna.alabel` is not used: it asks for IDNA 2008, which refuses emoji and other names that exist and resolve.
    idna = _idna()
    try:
        idna.check_initial_combiner(label)
        idna.check_bidi(label)
        valid = all(idna.valid_contextj(label, at) for at, char in enumerate(label) if char in "\u200c\u200d")
    except ValueError:
        valid = False
    if not valid or label.startswith(_ACE_PREFIX):
        raise InvalidHost("host has a label that IDNA does not allow")


def _map(text: str) -> str:
    idna = _idna()
    # Without the STD3 rules, which refuse the underscore; `_FORBIDDEN` takes their place.
    try:
        return str(idna.uts46_remap(text, std3_rules=False))
    except idna.IDNAError:
        raise InvalidHost("host has a character that IDNA does not allow") from None


def _idna() -> Any:
    """Loaded when a name needs it: the engine alone does not bring it, and most names are ASCII."""
    try:
        import idna
    except ImportError:
        raise InvalidHost("host is an international name, for which the package idna must be installed") from None
    return idna
