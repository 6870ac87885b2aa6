"""A running door, asked for UDP, with a client and an origin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Self

from codex_network_proxy.addons.doorway import DoorLimits
from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.socks.udp import UdpLimits
from tests.kit.socks_client import IPAddress
from tests.kit.udp_client import ZEROS, UdpClient
from tests.kit.udp_origins import UdpOrigin

from .running_door import RunningDoor

LOCAL = IPv4Address("127.0.0.1")


class UdpDoor(RunningDoor):
    """A running door, asked for UDP."""

    def __init__(self, udp: UdpLimits | None = None, connections: int = 4096, host: str = "127.0.0.1") -> None:
        super().__init__(DoorLimits(connections=connections, udp=udp or UdpLimits()), host=host)

    def __enter__(self) -> Self:
        super().__enter__()
        self.open_socks()
        return self

    def client(self, host: bytes | IPAddress = ZEROS, port: int = 0) -> UdpClient:
        return UdpClient(self.socks, host=host, port=port)

    @property
    def open_associations(self) -> int:
        return self.call(lambda: len(self.doorway.associations))

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> int:
        return self.call(lambda: self.door.recheck(still_allowed))


@contextmanager
def relaying(udp: UdpLimits | None = None) -> Iterator[tuple[UdpDoor, UdpClient, UdpOrigin]]:
    """A door, a client with an association, and an origin that echoes."""
    with UdpDoor(udp) as door, UdpOrigin() as origin, door.client() as client:
        yield door, client, origin


def hosts_asked(door: RunningDoor) -> list[str]:
    return [request.host for request in door.authority.asked]
