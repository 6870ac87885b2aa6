"""Would a connection end at the proxy itself? Its own ports are never dialled, whatever the policy says (spec A3)."""

from __future__ import annotations

import socket
from collections import Counter
from ipaddress import IPv6Address

from codex_network_proxy.policy.decision import IPAddress


class OwnListeners:
    """The proxy's own ports, which it never dials, whatever the policy says (spec A3). `others` count as well."""

    def __init__(self, others: OwnListeners | None = None) -> None:
        self._ports: Counter[int] = Counter()  # one port may be open at several addresses
        self._others = others

    def add(self, port: int) -> None:
        self._ports[port] += 1

    def discard(self, port: int) -> None:
        self._ports[port] -= 1
        if self._ports[port] <= 0:
            del self._ports[port]

    def __call__(self, address: IPAddress, port: int) -> bool:
        if self._others is not None and self._others(address, port):
            return True
        return port in self._ports and _belongs_to_this_machine(address)


def _belongs_to_this_machine(address: IPAddress) -> bool:
    """Whether a packet to the address would end here: only own addresses can be bound."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    address = mapped or address
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        probe = socket.socket(family, socket.SOCK_DGRAM)
    except OSError:
        return True  # nobody can tell, as when there are no more descriptors
    with probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
