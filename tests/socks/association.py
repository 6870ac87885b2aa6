"""A UDP association on loopback: the test plays the client, the servers, and whoever decides."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import TracebackType
from typing import Self

from codex_network_proxy.socks.addressing import IPAddress
from codex_network_proxy.socks.datagrams import LARGEST, Dropped, header_of, header_size, header_target
from codex_network_proxy.socks.udp import Association, Shared, UdpLimits
from codex_network_proxy.socks.udp_destination import Destination

from .sockets import new_poller, receive, tcp_pair, until

REPLY = b"the reply"
LOCAL = IPv4Address("127.0.0.1")


class FakeJudge:
    """Allows every address, as it is spelled on the wire, and names by `names`.

    Other names are denied; those that begin with `later` are left open.
    """

    def __init__(self) -> None:
        self.names: dict[bytes, list[IPAddress]] = {b"here.test": [LOCAL]}
        self.asked: list[Destination] = []
        self.forgot: list[Destination] = []
        self.ended: list[Association] = []

    def judge(self, destination: Destination) -> None:
        self.asked.append(destination)
        host = destination.target.host
        if not isinstance(host, bytes):
            destination.allow([getattr(host, "ipv4_mapped", None) or host])
        elif host == b"broken.test":
            raise ValueError("made up")
        elif host == b"gone.test":
            destination.fail()
        elif not host.startswith(b"later"):
            addresses = self.names.get(host)
            destination.allow(addresses) if addresses is not None else destination.deny()

    def forgotten(self, destination: Destination) -> None:
        self.forgot.append(destination)

    def closed(self, association: Association) -> None:
        self.ended.append(association)


def udp_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, port))
    return sock


def port_of(sock: socket.socket) -> int:
    port = sock.getsockname()[1]
    assert isinstance(port, int)
    return port


async def receive_from(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    data, sender = await asyncio.get_running_loop().sock_recvfrom(sock, LARGEST)
    return data, sender[:2]


class Relayed:
    """Use it as an asynchronous context manager. `claimed` maps the client's own port to the one it announces."""

    def __init__(
        self,
        limits: UdpLimits | None = None,
        *,
        claimed: Callable[[int], int] = lambda port: 0,
        pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair,
        client: str = "127.0.0.1",
    ) -> None:
        self.errors: list[Exception] = []
        self.poller = new_poller(self.errors)
        self.shared = Shared(asyncio.get_running_loop(), self.poller, limits or UdpLimits())
        self.judge = FakeJudge()
        self.control, self.inner_control = pair()
        self.client = udp_socket(client)
        self.association = Association(self.shared, self.inner_control, claimed(port_of(self.client)), self.judge)
        self.relay = self.association.address
        self._sockets = [self.control, self.client]

    async def __aenter__(self) -> Self:
        self.association.start(REPLY)
        assert await receive(self.control) == REPLY
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.association.close()
        shared = self.shared
        limited = [len(deadlines) for deadlines in (shared.idle, shared.denied, shared.failed, shared.silent)]
        self.shared.close()
        self.poller.close()
        for sock in self._sockets:
            sock.close()
        if error is None:
            assert not self.errors
            assert self.judge.ended == [self.association]
            assert Counter(self.judge.forgot) == Counter(self.judge.asked), "each destination ends once"
            assert self.inner_control.fileno() == -1
            assert (self.shared.sockets, self.shared.held, self.association.judging) == (0, 0, 0)
            assert not self.association.destinations
            assert limited == [0, 0, 0, 0], "nobody is waited for"
            assert not shared._pinned
            assert not shared._relays

    def server(self, host: str = "127.0.0.1", port: int = 0) -> socket.socket:
        """A UDP socket that is closed with the association."""
        sock = udp_socket(host, port)
        self._sockets.append(sock)
        return sock

    def send(self, host: bytes | str, port: int, payload: bytes, client: socket.socket | None = None) -> None:
        where = ip_address(host) if isinstance(host, str) else host
        self.send_raw(header_of(where, port) + payload, client)

    def send_raw(self, data: bytes, client: socket.socket | None = None) -> None:
        (client or self.client).sendto(data, self.relay)

    async def answer(self) -> tuple[IPAddress, int, bytes]:
        """What the client receives next: where it says it is from, and the payload."""
        data, sender = await receive_from(self.client)
        assert sender == self.relay
        size = header_size(data)
        assert not isinstance(size, Dropped)
        target = header_target(data[:size])
        assert isinstance(target.host, IPv4Address | IPv6Address)
        return target.host, target.port, data[size:]

    async def dropped(self, why: Dropped, count: int = 1) -> None:
        """Waits until `count` datagrams have gone nowhere for this reason, and none for another."""
        await until(lambda: self.association.dropped[why] >= count)
        assert self.association.dropped == {why: count}
