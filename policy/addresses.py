"""What an address is: public, or one of the kinds that need permission (spec A3, B3.1).

The tables are our own. `ipaddress.is_global` says True for NAT64, 6to4, multicast, `fec0::/10` and more.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

from .decision import IPAddress


class AddressClass(StrEnum):
    """The kinds of addresses. Only `PUBLIC` may be dialled without further permission."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link_local"
    METADATA = "metadata"
    MULTICAST = "multicast"
    UNSPECIFIED = "unspecified"
    RESERVED = "reserved"
    TRANSLATED = "translated"


_OPENED = frozenset({AddressClass.LOOPBACK, AddressClass.PRIVATE})


@lru_cache(maxsize=1024)
def address_text(address: IPAddress) -> str:
    """As it is written. Remembered: programs come back to the same few, and spelling one out takes longer."""
    return str(address)


def classify(address: IPAddress) -> AddressClass:
    """The class of `address`, with an IPv4 address inside an IPv6 one taken into account.

    Mapped and compatible addresses are judged by their IPv4 address. NAT64, SIIT, 6to4 and Teredo addresses are
    never public: who answers there is up to a translator.
    """
    value = int(address)
    if isinstance(address, IPv4Address):
        return _V4_CLASSES[bisect_right(_V4_STARTS, value) - 1]
    found = _V6_CLASSES[bisect_right(_V6_STARTS, value) - 1]
    return _classify_embedded(address) if found is AddressClass.TRANSLATED else found


def opened_by_local_binding(kind: AddressClass) -> bool:
    """Whether `allow_local_binding = true` is permission enough to dial this class.

    Only loopback and private addresses. Link-local ones are not: clouds keep credential services there.
    """
    return kind in _OPENED


def embedded_ipv4(address: IPAddress) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for, or None.

    Mapped and compatible (RFC 4291), SIIT (RFC 2765), NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380:
    the client, not the server).
    """
    value = int(address)
    if isinstance(address, IPv4Address) or value <= 1:
        return None
    for network, shift, mask in _EMBEDDING:
        if address in network:
            return IPv4Address((value >> shift & 0xFFFFFFFF) ^ mask)
    return None


def unmapped(address: IPAddress) -> IPAddress:
    """The address without an IPv6 zone, and IPv4-mapped ones as the IPv4 address they are."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


def _classify_embedded(address: IPv6Address) -> AddressClass:
    embedded = embedded_ipv4(address)
    kind = AddressClass.TRANSLATED if embedded is None else classify(embedded)
    judged_by_ipv4 = int(address) >> 32 in (0, 0xFFFF)
    return kind if judged_by_ipv4 or kind is AddressClass.METADATA else AddressClass.TRANSLATED


_V4_TABLE: dict[str, AddressClass] = {
    "0.0.0.0/0": AddressClass.PUBLIC,
    "0.0.0.0/8": AddressClass.UNSPECIFIED,
    "10.0.0.0/8": AddressClass.PRIVATE,
    "100.64.0.0/10": AddressClass.PRIVATE,  # shared address space: carriers and overlay networks (RFC 6598)
    "100.100.100.200/32": AddressClass.METADATA,  # Alibaba
    "127.0.0.0/8": AddressClass.LOOPBACK,
    "168.63.129.16/32": AddressClass.METADATA,  # Azure
    "169.254.0.0/16": AddressClass.LINK_LOCAL,
    "169.254.169.254/32": AddressClass.METADATA,  # most clouds
    "169.254.170.2/32": AddressClass.METADATA,  # AWS container credentials
    "169.254.170.23/32": AddressClass.METADATA,  # AWS pod identity
    "172.16.0.0/12": AddressClass.PRIVATE,
    "192.0.0.0/24": AddressClass.RESERVED,
    "192.0.0.192/32": AddressClass.METADATA,  # Oracle
    "192.0.2.0/24": AddressClass.RESERVED,
    "192.88.99.0/24": AddressClass.RESERVED,
    "192.168.0.0/16": AddressClass.PRIVATE,
    "198.18.0.0/15": AddressClass.RESERVED,
    "198.51.100.0/24": AddressClass.RESERVED,
    "203.0.113.0/24": AddressClass.RESERVED,
    "224.0.0.0/4": AddressClass.MULTICAST,
    "240.0.0.0/4": AddressClass.RESERVED,
}

_V6_TABLE: dict[str, AddressClass] = {
    "::/0": AddressClass.RESERVED,  # closed by default: only 2000::/3 has been given out
    "::/96": AddressClass.TRANSLATED,
    "::/128": AddressClass.UNSPECIFIED,
    "::1/128": AddressClass.LOOPBACK,
    "::ffff:0:0/96": AddressClass.TRANSLATED,
    "::ffff:0:0:0/96": AddressClass.TRANSLATED,
    "64:ff9b::/96": AddressClass.TRANSLATED,
    "64:ff9b:1::/48": AddressClass.TRANSLATED,
    "100::/64": AddressClass.RESERVED,
    "2000::/3": AddressClass.PUBLIC,
    "2001::/23": AddressClass.RESERVED,
    "2001::/32": AddressClass.TRANSLATED,
    "2001:db8::/32": AddressClass.RESERVED,
    "2002::/16": AddressClass.TRANSLATED,
    "3fff::/20": AddressClass.RESERVED,
    "5f00::/16": AddressClass.RESERVED,
    "fc00::/7": AddressClass.PRIVATE,
    "fd00:42::42/128": AddressClass.METADATA,  # Scaleway
    "fd00:ec2::23/128": AddressClass.METADATA,  # AWS pod identity
    "fd00:ec2::254/128": AddressClass.METADATA,  # AWS
    "fd20:ce::254/128": AddressClass.METADATA,  # Google
    "fe80::/10": AddressClass.LINK_LOCAL,
    "fec0::/10": AddressClass.PRIVATE,  # site-local, the ancestor of fc00::/7
    "ff00::/8": AddressClass.MULTICAST,
}

# Where the IPv4 address stands: network, bits to its right, and what it was scrambled with.
_EMBEDDING = (
    (IPv6Network("::ffff:0:0/96"), 0, 0),
    (IPv6Network("::/96"), 0, 0),
    (IPv6Network("::ffff:0:0:0/96"), 0, 0),
    (IPv6Network("64:ff9b::/96"), 0, 0),
    (IPv6Network("64:ff9b:1::/48"), 0, 0),
    (IPv6Network("2002::/16"), 80, 0),
    (IPv6Network("2001::/32"), 0, 0xFFFFFFFF),
)


def _flatten(table: dict[str, AddressClass]) -> tuple[list[int], list[AddressClass]]:
    """The same table as ranges that do not overlap: their starts, ascending, and their classes. The narrowest wins."""
    networks = [(ip_network(text), kind) for text, kind in table.items()]
    ranges = [(int(network[0]), int(network[-1]), kind) for network, kind in networks]
    ranges.sort(key=lambda row: row[1] - row[0])
    # The last edge is the end of the whole address space.
    starts = sorted({edge for first, last, _ in ranges for edge in (first, last + 1)})[:-1]
    return starts, [next(kind for first, last, kind in ranges if first <= start <= last) for start in starts]


_V4_STARTS, _V4_CLASSES = _flatten(_V4_TABLE)
_V6_STARTS, _V6_CLASSES = _flatten(_V6_TABLE)
