"""Class D: ports and authorities."""

from __future__ import annotations

from .rows import FAILED, REFUSED, HostRow, RawRow

PORTS = (
    *(
        HostRow(f"D01 port {port!r} is nothing special", b"allowed.test", (FAILED,), port=port)
        for port in (b"1", b"19", b"65535")
    ),
    *(
        HostRow(f"D02 port {port!r}", b"allowed.test", (REFUSED,), port=port)
        for port in (b"0", b"65536", b"-1", b"https", b"0443", b" 443", b"443 ", b"99999999999", b"4_43", b"+443")
    ),
    HostRow("D02 a full-width digit as port", b"allowed.test", (REFUSED,), port="\uff14\uff14\uff13".encode()),
    HostRow("D02 a superscript digit as port", b"allowed.test", (REFUSED,), port="\u00b2".encode()),
    HostRow("D02 no port means 80", b"allowed.test", (FAILED,), port=b""),
)

AUTHORITIES = (
    RawRow("D02 CONNECT with an empty port", b"CONNECT allowed.test: HTTP/1.1\r\nHost: allowed.test\r\n\r\n"),
    RawRow("D02 CONNECT to a port only", b"CONNECT :443 HTTP/1.1\r\nHost: allowed.test\r\n\r\n"),
    RawRow("D02 CONNECT with a space before the port", b"CONNECT allowed.test :443 HTTP/1.1\r\nHost: {at}\r\n\r\n"),
    RawRow("D03 CONNECT with a scheme", b"CONNECT https://allowed.test:443/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n"),
    RawRow("D03 CONNECT with a path", b"CONNECT allowed.test:443/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n"),
    RawRow("D03 CONNECT with a query", b"CONNECT allowed.test:443?x HTTP/1.1\r\nHost: allowed.test\r\n\r\n"),
    RawRow("D03 CONNECT to a star", b"CONNECT * HTTP/1.1\r\nHost: allowed.test\r\n\r\n"),
    RawRow("D03 CONNECT to nothing", b"CONNECT  HTTP/1.1\r\nHost: allowed.test\r\n\r\n"),
    RawRow("D03 CONNECT without a target", b"CONNECT HTTP/1.1\r\nHost: allowed.test\r\n\r\n"),
    RawRow("D03 CONNECT to a slash", b"CONNECT / HTTP/1.1\r\nHost: {at}\r\n\r\n"),
    RawRow("D03 GET in authority form", b"GET {at} HTTP/1.1\r\nHost: {at}\r\n\r\n"),
    RawRow("D04 two Host fields", b"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\nHost: evil.test\r\n\r\n"),
)
