"""An address as SOCKS writes it: its type, the address itself, and a port (RFC 1928 section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

IPAddress = IPv4Address | IPv6Address

IPV4 = 1
DOMAIN = 3
IPV6 = 4
_SIZES = {IPV4: 4, IPV6: 16}

LONGEST_DOMAIN = 255
"""Bytes of a domain: its length is written in one byte."""


class UnknownAddressType(ValueError):
    """The address has a type that RFC 1928 does not know."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client wants to go. A domain is kept as the bytes that came: nobody has judged them yet."""

    host: bytes | IPAddress
    port: int


def read_target(data: bytes | bytearray | memoryview, start: int = 0) -> tuple[Target, int] | None:
    """The target that begins at `start`, and where the first byte after it stands; `None` while it is incomplete.

    Raises `UnknownAddressType`, as soon as the type is there.
    """
    if start >= len(data):
        return None
    kind, begin = data[start], start + 1
    if kind == DOMAIN:
        if begin >= len(data):
            return None
        begin, size = begin + 1, data[begin]
    elif (size := _SIZES.get(kind, 0)) == 0:
        raise UnknownAddressType(f"address type {kind}")
    end = begin + size
    if len(data) < end + 2:
        return None
    return _target(kind, bytes(data[begin : end + 2])), end + 2


@lru_cache(maxsize=1024)
def _target(kind: int, raw: bytes) -> Target:
    """Remembered: programs come back to the same few, and an address takes longer to make than to look up."""
    host, port = raw[:-2], raw[-2] << 8 | raw[-1]
    if kind == DOMAIN:
        return Target(host, port)
    return Target(IPv4Address(host) if kind == IPV4 else IPv6Address(host), port)


def write_target(host: bytes | IPAddress, port: int) -> bytes:
    """The bytes of an address, as in a reply or a datagram's header; a zone is left out.

    Raises `ValueError` for a domain that is too long, and `OverflowError` for a port that is.
    """
    end = port.to_bytes(2)
    match host:
        case IPv4Address():
            return bytes((IPV4,)) + host.packed + end
        case IPv6Address():
            return bytes((IPV6,)) + host.packed + end
        case _:
            return bytes((DOMAIN, len(host))) + host + end
