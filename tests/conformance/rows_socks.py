"""Class I: what is said before a tunnel is there. Bytes in, and the very bytes that must come back (RFC 1928)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from tests.kit.policies import OPEN, Policy
from tests.kit.socks_client import ASSOCIATE, BIND, GRANTED, GREETING, NO_METHOD, socks_request

AT = b"\x03\x0callowed.test"
"""The shared origin's name, as the address of a request; `{port}` follows."""
REJECTED_BY_VERSION_4 = b"\x00\x5b" + bytes(6)


@dataclass(frozen=True, slots=True)
class SocksRow:
    """Bytes to the SOCKS5 port, after which the connection ends.

    `{port}` stands for the two bytes of the shared origin's port. `code` is that of the reply after `said`; without
    one nothing more comes.
    """

    id: str
    sent: bytes
    said: bytes = b""
    code: int | None = None
    policy: Policy = OPEN


def _asked(id: str, request: bytes, code: int | None) -> SocksRow:
    return SocksRow(id, GREETING + request, GRANTED, code)


GREETINGS = (
    SocksRow("I01 version 4", b"\x04\x01{port}\x7f\x00\x00\x01\x00", REJECTED_BY_VERSION_4),
    SocksRow("I01 version 4a", b"\x04\x01{port}\x00\x00\x00\x01user\x00allowed.test\x00", REJECTED_BY_VERSION_4),
    SocksRow("I01 version 0", b"\x00\x01\x00"),
    SocksRow("I01 version 6", b"\x06\x01\x00"),
    SocksRow("I01 noise", bytes(range(0xF0, 0x100))),
    SocksRow("I01 a TLS handshake", bytes.fromhex("160301000a0100000603030000")),
    SocksRow("I01 no methods", b"\x05\x00", NO_METHOD),
    SocksRow("I01 only GSSAPI", b"\x05\x01\x01", NO_METHOD),
    SocksRow("I01 no method that is known", b"\x05\x03\x03\x80\xfe", NO_METHOD),
    SocksRow("I01 every method but the one", b"\x05\xff" + bytes(range(1, 256)), NO_METHOD),
    SocksRow("I01 the refusal itself as a method", b"\x05\x01\xff", NO_METHOD),
    SocksRow("I09 only user and password", b"\x05\x01\x02", NO_METHOD),
    SocksRow("I09 user and password, sent without being asked", b"\x05\x01\x02\x01\x04user\x04word", NO_METHOD),
    SocksRow("I09 user and password after none was agreed", b"\x05\x02\x00\x02\x01\x04user\x04word", GRANTED, 1),
)

REQUESTS = (
    _asked("I01 a request of version 4", b"\x04\x01\x00" + AT + b"{port}", 1),
    _asked("I01 a request of version 0", b"\x00\x01\x00" + AT + b"{port}", 1),
    _asked("I01 command 0", b"\x05\x00\x00" + AT + b"{port}", 7),
    _asked("I01 BIND", socks_request(b"allowed.test", 80, BIND), 7),
    _asked("I01 command 4", b"\x05\x04\x00" + AT + b"{port}", 7),
    _asked("I01 command 255", b"\x05\xff\x00" + AT + b"{port}", 7),
    _asked("I01 address type 0", b"\x05\x01\x00\x00" + b"{port}", 8),
    _asked("I01 address type 2", b"\x05\x01\x00\x02\x7f\x00\x00\x01{port}", 8),
    _asked("I01 address type 255", b"\x05\x01\x00\xff\x7f\x00\x00\x01{port}", 8),
    _asked("I01 a domain of no bytes", b"\x05\x01\x00\x03\x00{port}", 2),
    _asked("I01 port 0", socks_request(b"allowed.test", 0), 2),
    _asked("I01 a port inside the domain", b"\x05\x01\x00" + b"\x03\x0fallowed.test:80" + b"{port}", 2),
    SocksRow(
        "I01 an association where UDP is off",
        GREETING + socks_request(IPv4Address(0), 0, ASSOCIATE),
        GRANTED,
        7,
        Policy(allow_local_binding=True, lines=("enable_socks5_udp = false",)),
    ),
)
