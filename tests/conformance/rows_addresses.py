"""Class B: address literals. Whatever the spelling, the address it means is judged."""

from __future__ import annotations

from tests.kit.policies import Policy

from .rows import DENIED, LOCAL, NOT_ALLOWED, PASSED, REFUSED, HostRow

STRICT = Policy()
# Explicit entries open exactly themselves; wildcards and ranges of names never open a literal.
EXPLICIT = Policy(
    allowed=("127.0.0.1", "*.localhost", "10.1.0.0/16", "8.8.4.4"),
    denied=("127.0.0.9", "9.9.9.0/24"),
    names=(("foo.localhost", (("127.0.0.1",),)),),
)
LOCALHOST = Policy(allowed=("localhost",), denied=())
# Local binding opens loopback and private addresses, and nothing else.
BINDING = Policy(allowed=("127.0.0.0/8", "10.0.0.0/8", "**.test"), allow_local_binding=True)
BINDING_UNLISTED = Policy(allowed=("allowed.test",), allow_local_binding=True)


def _local(case: str, *literals: str) -> tuple[HostRow, ...]:
    return tuple(HostRow(f"{case} {text}", text.encode(), (LOCAL,), STRICT) for text in literals)


def _never(case: str, *literals: str) -> tuple[HostRow, ...]:
    """Spellings that may be refused as such, or judged; both are closed."""
    right = (LOCAL, NOT_ALLOWED, REFUSED)
    return tuple(HostRow(f"{case} {text!r}", text.encode(), right, STRICT) for text in literals)


ADDRESSES = (
    *_local("B01", "127.0.0.1", "127.255.255.254", "localhost", "LOCALHOST."),
    HostRow("B01 a name below localhost", b"foo.localhost", (NOT_ALLOWED,), STRICT),
    *_local("B02", "0.0.0.0", "0", "[::]", "0.1.2.3"),
    *_local("B03", "127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "0x7f000001", "0x7F.1", "017700000001"),
    *_never("B03", "127.0.0.01", "\uff11\uff12\uff17.0.0.1", "127.0.0.1.", "256.1", "1.2.3.4.5", "0x", "0x7f.0.0.0x1"),
    *_local("B07", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::ffff:10.0.0.1]", "[0:0:0:0:0:FFFF:7f00:1]"),
    HostRow("B07 a mapped public address is the IPv4 one", b"[::ffff:8.8.8.8]", (NOT_ALLOWED,), STRICT),
    HostRow("B07 an allowed address in mapped form", b"[::ffff:127.0.0.1]", (PASSED,), EXPLICIT),
    HostRow("B07 a denied address in mapped form", b"[::ffff:127.0.0.9]", (DENIED,), EXPLICIT),
    *_local("B08", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[::10.0.0.1]"),
    *_local("B09", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a00:1]"),
    *_local("B10", "[2002:7f00:1::1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[2002:a9fe:a9fe::]"),
    *_local("B11", "[fc00::1]", "[fd12::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "[3fff::1]"),
    *_local("B11", "[100::1]", "[5f00::1]", "224.0.0.251", "255.255.255.255", "240.0.0.1", "192.0.2.1"),
    *_local("B11", "198.51.100.1", "203.0.113.1", "198.18.0.1", "192.0.0.8", "192.88.99.1", "100.64.0.1"),
    *_local("B11", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.1.1"),
    *_local("B13", "169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16"),
    *_never(
        "B12", "[fe80::1%25eth0]", "[::1%lo]", "[fe80::1%eth0]", "[::ffff:1.2.3.4%x.sub.test]", "[::1%25.sub.test]"
    ),
    *_never("B12", "::1", "[127.0.0.1]", "[[::1]]", "[v1.fe80]"),
    HostRow("B14 a public literal that is not listed", b"8.8.8.8", (NOT_ALLOWED,), STRICT),
    HostRow("B14 a public IPv6 literal that is not listed", b"[2606:4700::1111]", (NOT_ALLOWED,), STRICT),
    HostRow("B14 a denied range against a literal", b"9.9.9.9", (DENIED,), EXPLICIT),
    HostRow("B14 a denied range against a shorthand", b"0x09090909", (DENIED,), EXPLICIT),
    HostRow("B16 an explicit literal", b"127.0.0.1", (PASSED,), EXPLICIT),
    HostRow("B16 an explicit literal in another spelling", b"0x7f.1", (PASSED,), EXPLICIT),
    HostRow("B16 the neighbour of an explicit literal", b"127.0.0.2", (LOCAL,), EXPLICIT),
    HostRow("B16 the IPv6 neighbour of an explicit literal", b"[::1]", (LOCAL,), EXPLICIT),
    HostRow("B16 localhost beside an explicit literal", b"localhost", (LOCAL,), EXPLICIT),
    HostRow("B16 a private literal outside the listed range", b"10.2.0.1", (LOCAL,), EXPLICIT),
    HostRow("B16 a listed name below localhost stays local", b"foo.localhost", (LOCAL,), EXPLICIT),
    HostRow("B16 localhost listed by name", b"localhost", (PASSED,), LOCALHOST),
    HostRow("B16 a literal beside localhost listed by name", b"127.0.0.1", (LOCAL,), LOCALHOST),
    HostRow("B17 local binding with a listed literal", b"127.0.0.1", (PASSED,), BINDING),
    HostRow("B17 local binding without a listed literal", b"127.0.0.1", (NOT_ALLOWED,), BINDING_UNLISTED),
    HostRow("B17 local binding never opens metadata", b"169.254.169.254", (LOCAL,), BINDING),
    HostRow("B17 local binding never opens multicast", b"224.0.0.251", (LOCAL,), BINDING),
    HostRow("B17 local binding never opens the unspecified address", b"0.0.0.0", (LOCAL,), BINDING),
)
