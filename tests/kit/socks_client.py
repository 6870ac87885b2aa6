"""A SOCKS5 client that sends exactly the bytes it is given, and takes no answer that RFC 1928 does not know."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from .proxy import ProxyProcess
from .raw import TIMEOUT, Client, fresh_connection

CONNECT, BIND, ASSOCIATE = 1, 2, 3
GREETING, GRANTED = b"\x05\x01\x00", b"\x05\x00"
"""One method is offered, no authentication; it is taken."""
NO_METHOD = b"\x05\xff"

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class SocksReply:
    """A reply's code, and the address that it names."""

    code: int
    address: IPAddress
    port: int


def address_bytes(host: bytes | IPAddress, port: int) -> bytes:
    """Address type, address and port; `bytes` are a domain."""
    match host:
        case IPv4Address():
            return b"\x01" + host.packed + port.to_bytes(2)
        case IPv6Address():
            return b"\x04" + host.packed + port.to_bytes(2)
        case _:
            return bytes((3, len(host))) + host + port.to_bytes(2)


def socks_request(host: bytes | IPAddress, port: int, command: int = CONNECT) -> bytes:
    return bytes((5, command, 0)) + address_bytes(host, port)


def parse_literal(host: bytes) -> IPAddress | None:
    """The address that these bytes spell in its usual form, with brackets or without."""
    text = host[1:-1] if host.startswith(b"[") and host.endswith(b"]") else host
    try:
        return None if b"%" in text else ip_address(text.decode())
    except ValueError:
        return None


class SocksClient(Client):
    """One TCP connection to a SOCKS5 port, from an address that no other client of this process has had."""

    def __init__(self, address: str, timeout: float = TIMEOUT) -> None:
        super().__init__(address, timeout, fresh_connection(address, timeout))

    def greet(self, greeting: bytes = GREETING, step: int | None = None) -> bytes:
        """The two bytes of the server's choice."""
        self.send(greeting, step)
        return self.stream.exactly(2)

    def reply(self) -> SocksReply:
        """The next reply."""
        version, code, reserved, kind = self.stream.exactly(4)
        assert (version, reserved) == (5, 0), (version, code, reserved, kind)
        assert kind in (1, 4), f"address type {kind} in a reply"
        address = ip_address(self.stream.exactly({1: 4, 4: 16}[kind]))
        return SocksReply(code, address, int.from_bytes(self.stream.exactly(2)))

    def command(self, host: bytes | IPAddress, port: int, command: int = CONNECT) -> SocksReply:
        """Greets, asks and reads the reply."""
        assert self.greet() == GRANTED
        self.send(socks_request(host, port, command))
        return self.reply()


def socks_tunnel(proxy: ProxyProcess, host: bytes | str, port: int) -> SocksClient:
    """A connection on which CONNECT was granted."""
    client = SocksClient(proxy.socks)
    try:
        reply = client.command(host.encode() if isinstance(host, str) else host, port)
        assert reply.code == 0, reply
    except BaseException:
        client.sock.close()
        raise
    return client
