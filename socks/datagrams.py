"""The header in front of every datagram between a SOCKS5 client and the relay (RFC 1928 section 7). No I/O."""

from __future__ import annotations

from enum import StrEnum

from .addressing import DOMAIN, IPV4, IPV6, IPAddress, Target, read_target, write_target

LARGEST = 65_535
"""No datagram is larger, in bytes: its length is written in two."""

_TYPE_AT = 3
_FIXED_SIZES = {IPV4: 10, IPV6: 22}
_UNFRAGMENTED = b"\0\0\0"


class Dropped(StrEnum):
    """Why a datagram went nowhere."""

    TRUNCATED = "shorter than its header"
    RESERVED = "reserved bytes are not zero"
    FRAGMENT = "a fragment"
    ADDRESS_TYPE = "unknown type of address"
    FOREIGN = "not from the client"
    DENIED = "its destination is not allowed"
    UNREACHABLE = "its destination cannot be reached"
    WAITING = "too many wait for a decision"
    CROWDED = "too many destinations"
    UNSENT = "the network did not take it"


def header_size(data: memoryview | bytes) -> int | Dropped:
    """How many bytes of `data`, a datagram of the client, are its header; or why it must be dropped.

    Fragments are dropped, as the RFC lets a relay do that does not put them together.
    """
    if len(data) <= _TYPE_AT:
        return Dropped.TRUNCATED
    if data[0] or data[1]:
        return Dropped.RESERVED
    if data[2]:
        return Dropped.FRAGMENT
    kind = data[_TYPE_AT]
    if kind == DOMAIN:
        size = 7 + data[4] if len(data) > 4 else 5
    elif not (size := _FIXED_SIZES.get(kind, 0)):
        return Dropped.ADDRESS_TYPE
    return size if size <= len(data) else Dropped.TRUNCATED


def header_target(header: bytes) -> Target:
    """Where a whole header of `header_size` bytes says the datagram goes."""
    found = read_target(header, _TYPE_AT)
    assert found is not None, "the header is whole"
    return found[0]


def names_an_address(header: bytes) -> bool:
    """Whether the header holds an address and not a name."""
    return header[_TYPE_AT] != DOMAIN


def header_of(host: bytes | IPAddress, port: int) -> bytes:
    """The header of a datagram that goes to, or comes from, this host."""
    return _UNFRAGMENTED + write_target(host, port)
