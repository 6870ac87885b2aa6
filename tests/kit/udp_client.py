"""A SOCKS5 client that sends datagrams, and takes no answer that RFC 1928 does not know."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from types import TracebackType
from typing import Self

from .raw import TIMEOUT
from .socks_client import ASSOCIATE, IPAddress, SocksClient, address_bytes
from .udp_origins import LARGEST

ZEROS = IPv4Address(0)
_SIZES = {1: 4, 4: 16}


@dataclass(frozen=True, slots=True)
class Datagram:
    """What came back, and where the relay says it is from."""

    host: IPAddress
    port: int
    payload: bytes


class UdpClient:
    """An association and a socket of its own; `control` is the TCP connection that keeps it open."""

    def __init__(self, proxy: str, timeout: float = TIMEOUT, host: bytes | IPAddress = ZEROS, port: int = 0) -> None:
        self.control = SocksClient(proxy, timeout)
        reply = self.control.command(host, port, ASSOCIATE)
        assert reply.code == 0, reply
        self.relay = (str(reply.address), reply.port)
        family = socket.AF_INET if reply.address.version == 4 else socket.AF_INET6
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.bind((self.relay[0], 0))
        self.sock.settimeout(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.sock.close()
        self.control.sock.close()

    def send(self, host: str | bytes, port: int, payload: bytes) -> None:
        """Sends to an address (`str`) or a name (`bytes`)."""
        where = ip_address(host) if isinstance(host, str) else host
        self.sock.sendto(b"\0\0\0" + address_bytes(where, port) + payload, self.relay)

    def receive(self) -> Datagram:
        data, sender = self.sock.recvfrom(LARGEST)
        assert sender[:2] == self.relay, sender
        assert data[:3] == b"\0\0\0", data[:3]
        end = 4 + _SIZES[data[3]]
        return Datagram(ip_address(data[4:end]), int.from_bytes(data[end : end + 2]), data[end + 2 :])

    def ask(self, host: str | bytes, port: int, payload: bytes) -> Datagram:
        self.send(host, port, payload)
        return self.receive()
