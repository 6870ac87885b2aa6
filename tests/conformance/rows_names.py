"""Class A: host names. One canonical form, matched as a whole, on every door."""

from __future__ import annotations

from dataclasses import replace

from tests.kit.policies import OPEN

from .rows import DENIED, NOT_ALLOWED, PASSED, REFUSED, HostRow

# Nearly everything under .test is allowed, so that only the deny list stands in the way.
WIDE = replace(
    OPEN,
    allowed=("**.test",),
    denied=("denied.test", "Later.TEST.", "b\u00fccher.test", "xn--mnchen-3ya.test", "**.deep.test", "pre*.part.test"),
)
APEX = replace(OPEN, allowed=("**.sub.test", "region*.v2.test"), pins=(*OPEN.pins, ("sub.test", "127.0.0.1")))
EMPTY = replace(OPEN, allowed=(), denied=())

NAMES = (
    HostRow("A01 a name that only ends alike is another name", b"evilsub.test", (NOT_ALLOWED,)),
    HostRow("A02 a star does not mean the apex", b"sub.test", (NOT_ALLOWED,)),
    HostRow("A02 two stars mean the apex as well", b"sub.test", (PASSED,), APEX),
    HostRow("A02 two stars mean names below", b"a.sub.test", (PASSED,), APEX),
    HostRow("A02 the exact name", b"allowed.test", (PASSED,)),
    HostRow("A02 a name below the star", b"a.sub.test", (PASSED,)),
    HostRow("A03 a name below the one allowed is another name", b"x.allowed.test", (NOT_ALLOWED,)),
    HostRow("A04 a leading dot", b".sub.test", (REFUSED,)),
    HostRow("A04 two leading dots", b"..sub.test", (REFUSED,)),
    HostRow("A04 an empty label inside", b"a..sub.test", (REFUSED,)),
    HostRow("A04 only a dot", b".", (REFUSED,)),
    HostRow("A04 nothing at all", b"", (REFUSED,)),
    HostRow("A06 a longer last label", b"allowed.testx", (NOT_ALLOWED,)),
    HostRow("A06 a longer first label", b"xallowed.test", (NOT_ALLOWED,)),
    HostRow("A06 the allowed name as a prefix of another", b"allowed.test.evil.test", (NOT_ALLOWED,)),
    HostRow("A07 denied in mixed case", b"DENIED.Test", (DENIED,), WIDE),
    HostRow("A07 denied with a trailing dot", b"denied.test.", (DENIED,), WIDE),
    HostRow("A07 denied in capitals with a trailing dot", b"DENIED.TEST.", (DENIED,), WIDE),
    HostRow("A07 denied with two trailing dots", b"denied.test..", (DENIED, REFUSED), WIDE),
    HostRow("A07 allowed in mixed case with a trailing dot", b"ALLOWED.Test.", (PASSED,)),
    HostRow("A08 a deny entry written with capitals and a dot", b"later.test", (DENIED,), WIDE),
    HostRow("A09 deep below a denied name", b"a.b.c.deep.test", (DENIED,), WIDE),
    HostRow("A09 a star inside a denied label", b"prefix.part.test", (DENIED,), WIDE),
    HostRow("A10 a star inside a label does not cross a dot", b"region.a.v2.test", (NOT_ALLOWED,), APEX),
    HostRow("A10 a star inside a label is anchored", b"xregion1.v2.test", (NOT_ALLOWED,), APEX),
    HostRow("A11 an empty allowlist allows nothing", b"allowed.test", (NOT_ALLOWED,), EMPTY),
    HostRow("A12 an escaped NUL", b"evil.test%00.sub.test", (REFUSED,)),
    HostRow("A12 an escaped dot", b"a%2esub.test", (REFUSED,)),
    HostRow("A12 an escaped letter", b"%61llowed.test", (REFUSED,)),
    HostRow("A13 a NUL byte", b"evil.test\x00.sub.test", (REFUSED,)),
    HostRow("A13 a control byte", b"a\x01.sub.test", (REFUSED,)),
    HostRow("A13 an escape byte", b"\x1b[31ma.sub.test", (REFUSED,)),
    HostRow("A13 a DEL byte", b"a\x7f.sub.test", (REFUSED,)),
    HostRow("A13 a tab", b"a\t.sub.test", (REFUSED,)),
    HostRow("A13 a space", b"a .sub.test", (REFUSED,)),
    HostRow("A13 a line break", b"a.sub.test\r\nX-Injected: 1", (REFUSED,)),
    HostRow("A13 a bare carriage return", b"a.sub.test\rx", (REFUSED,)),
    HostRow("A14 an ideographic full stop", "denied\u3002test".encode(), (DENIED, REFUSED), WIDE),
    HostRow("A14 a full-width full stop", "denied\uff0etest".encode(), (DENIED, REFUSED), WIDE),
    HostRow("A14 a half-width full stop", "denied\uff61test".encode(), (DENIED, REFUSED), WIDE),
    HostRow("A14 a trailing ideographic full stop", "denied.test\u3002".encode(), (DENIED, REFUSED), WIDE),
    HostRow("A14 full-width letters", "\uff44enied.test".encode(), (DENIED, REFUSED), WIDE),
    HostRow("A15 bytes that are no UTF-8", b"\xff\xfe.sub.test", (REFUSED,)),
    HostRow("A15 a soft hyphen inside", "den\u00adied.test".encode(), (DENIED, REFUSED), WIDE),
    HostRow("A15 a zero-width joiner inside", "den\u200died.test".encode(), (DENIED, REFUSED), WIDE),
    HostRow("A16 denied in Unicode, asked for in ASCII", b"xn--bcher-kva.test", (DENIED,), WIDE),
    HostRow("A16 denied in Unicode, asked for in Unicode", "b\u00fccher.test".encode(), (DENIED, REFUSED), WIDE),
    HostRow("A16 denied in Unicode, asked for decomposed", "bu\u0308cher.test".encode(), (DENIED, REFUSED), WIDE),
    HostRow("A16 denied in ASCII, asked for in Unicode", "m\u00fcnchen.test".encode(), (DENIED, REFUSED), WIDE),
    HostRow("A16 denied in ASCII, asked for in capitals", b"XN--MNCHEN-3YA.test", (DENIED,), WIDE),
    HostRow("A17 malformed punycode", b"xn--a.test", (REFUSED,), WIDE),
    HostRow("A17 empty punycode", b"xn--.test", (REFUSED,), WIDE),
    HostRow("A18 a label of 64 bytes", b"a" * 64 + b".sub.test", (REFUSED,)),
    HostRow("A18 a name of 260 bytes", b"abcdefghi." * 25 + b"a.sub.test", (REFUSED,)),
    HostRow("A18 a name of 254 bytes", b"abcdefghi." * 24 + b"abcde.sub.test", (REFUSED,)),
    HostRow("A20 an underscore", b"foo_bar.sub.test", (PASSED,)),
    HostRow("A21 user information before the host", b"allowed.test@evil.test", (REFUSED,)),
    HostRow("A21 user and password", b"user:word@allowed.test", (REFUSED,)),
    HostRow("A22 a fragment in the host", b"evil.test#.sub.test", (REFUSED,)),
    HostRow("A22 a backslash in the host", b"evil.test\\.sub.test", (REFUSED,)),
    HostRow("A23 a name in brackets", b"[allowed.test]", (REFUSED,)),
    HostRow("A23 a denied name in two pairs of brackets", b"[[denied.test]]", (REFUSED,)),
    HostRow("A23 a denied name with a dot in brackets", b"[denied.test.]", (REFUSED,)),
    HostRow("A23 a bracket that is never closed", b"[::1", (REFUSED,)),
    HostRow("A23 bytes after the bracket", b"[::1]x", (REFUSED,)),
    HostRow("A24 a port inside the name", b"evil.test:443.allowed.test", (REFUSED,)),
    HostRow("A24 two ports", b"allowed.test:443:evil.test", (REFUSED,)),
    HostRow("A24 a host behind a port", b"allowed.test:443:evil.test", (REFUSED,), port=b""),
    HostRow("A29 a line feed before another name", b"a.sub.test\n.evil.test", (REFUSED,)),
    HostRow("A29 a trailing line feed", b"allowed.test\n", (REFUSED,)),
)

K_EXACT = replace(OPEN, allowed=("allowed.test",), denied=("allowed.test",))
K_WILD = replace(OPEN, allowed=("a.sub.test", "evil.test"), denied=("*.sub.test",))
K_PORT = replace(OPEN, allowed=("**.test",), denied=("denied.test:{port}", "evil.test:1", "10.0.0.0/8"))
K_PORT_ONLY = replace(OPEN, allowed=("allowed.test:{port}", "evil.test:1"), denied=())

PRECEDENCE = (
    HostRow("K02 the same name in both lists", b"allowed.test", (DENIED,), K_EXACT),
    HostRow("K02 a wide deny against an exact allow", b"a.sub.test", (DENIED,), K_WILD),
    HostRow("K02 an exact allow beside a wide deny", b"evil.test", (PASSED,), K_WILD),
    HostRow("K02 a deny of one port under a wide allow", b"denied.test", (DENIED,), K_PORT),
    HostRow("K02 a deny of another port denies nothing here", b"evil.test", (PASSED,), K_PORT),
    HostRow("K02 a denied range against a literal", b"10.1.2.3", (DENIED,), K_PORT),
    HostRow("D01 an allowed port", b"allowed.test", (PASSED,), K_PORT_ONLY),
    HostRow("D01 a name allowed on another port only", b"evil.test", (NOT_ALLOWED,), K_PORT_ONLY),
)
