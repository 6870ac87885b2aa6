"""Class F: where a request begins and ends must not be a matter of taste. Each row: one clean 400, and the end."""

from __future__ import annotations

from .rows import RawRow

MISMATCH = "Host header does not match request target"
INVALID_HOST = "invalid Host header"


def _post(case: str, fields: bytes, body: bytes = b"hello") -> RawRow:
    head = b"POST http://{at}/t HTTP/1.1\r\nHost: {at}\r\n" + fields + b"\r\n\r\n"
    return RawRow(case, head + body)


def _get(case: str, fields: bytes, status: tuple[int, ...] = (400,)) -> RawRow:
    return RawRow(case, b"GET http://{at}/t HTTP/1.1\r\nHost: {at}\r\n" + fields + b"\r\n\r\n", status)


def _line(case: str, line: bytes, status: tuple[int, ...] = (400,)) -> RawRow:
    return RawRow(case, line + b"\r\nHost: {at}\r\n\r\n", status)


CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"

LENGTHS = (
    _post("F01 length and chunks together", b"Content-Length: 5\r\nTransfer-Encoding: chunked", CHUNKS),
    _post("F02 two lengths that differ", b"Content-Length: 5\r\nContent-Length: 6"),
    _post("F02 two lengths that agree", b"Content-Length: 5\r\nContent-Length: 5"),
    _post("F02 a list of lengths", b"Content-Length: 5, 5"),
    _post("F02 a length with a sign", b"Content-Length: +5"),
    _post("F02 a negative length", b"Content-Length: -5"),
    _post("F02 a hexadecimal length", b"Content-Length: 0x5"),
    _post("F02 a length with a space inside", b"Content-Length: 5 5"),
    _post("F02 a length with an underscore", b"Content-Length: 1_0"),
    _post("F02 a length in other digits", b"Content-Length: \xb2"),
    _post("F02 a length that is no number", b"Content-Length: five"),
    _post("F02 an empty length", b"Content-Length:"),
    _post("F02 a length of 30 digits", b"Content-Length: " + b"9" * 30),
    _post("F02 a fraction as length", b"Content-Length: 5.0"),
)

CODINGS = (
    _post("F01 chunked twice", b"Transfer-Encoding: chunked, chunked", CHUNKS),
    _post("F01 two codings fields", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKS),
    _post("F01 chunked is not the last coding", b"Transfer-Encoding: chunked, gzip", CHUNKS),
    _post("F01 identity", b"Transfer-Encoding: identity", CHUNKS),
    _post("F01 an unknown coding", b"Transfer-Encoding: xchunked", CHUNKS),
    _post("F01 a quoted coding", b'Transfer-Encoding: "chunked"', CHUNKS),
    _post("F01 a coding with a vertical tab", b"Transfer-Encoding: \x0bchunked", CHUNKS),
    _post("F01 an empty coding", b"Transfer-Encoding:", CHUNKS),
    RawRow(
        "F01 chunks under HTTP/1.0",
        b"POST http://{at}/t HTTP/1.0\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    ),
)

FIELDS = (
    RawRow("F03 bare line feeds", b"GET http://{at}/t HTTP/1.1\nHost: {at}\n\n"),
    RawRow("F03 one bare line feed", b"GET http://{at}/t HTTP/1.1\r\nHost: {at}\nX-A: b\r\n\r\n"),
    _get("F03 a bare carriage return in a value", b"X-A: b\rX-C: d"),
    _get("F03 a folded field", b"X-A: b\r\n c"),
    _get("F03 a field folded with a tab", b"X-A: b\r\n\tc"),
    _get("F03 a space before the colon", b"X-A : b"),
    _get("F03 a space before the colon of the length", b"Content-Length : 0"),
    _get("F03 a NUL in a value", b"X-A: b\x00c"),
    _get("F03 a control byte in a value", b"X-A: b\x1bc"),
    _get("F03 a name that is not ASCII", b"X-\xc3\xa9: b"),
    _get("F03 a name with a space", b"X A: b"),
    _get("F03 a name with brackets", b"X[A]: b"),
    _get("F03 an empty name", b": b"),
    _get("F03 a line without a colon", b"just words"),
    _get("F03 a field line that starts with a space", b" X-A: b"),
    RawRow("F03 a space before the first field", b"GET http://{at}/t HTTP/1.1\r\n Host: {at}\r\n\r\n"),
)

LINES = (
    _line("F08 no version", b"GET http://{at}/t"),
    _line("F08 HTTP/0.9", b"GET http://{at}/t HTTP/0.9"),
    _line("F08 HTTP/2.0 in clear", b"GET http://{at}/t HTTP/2.0", (400, 505)),
    _line("F08 a version with a letter", b"GET http://{at}/t HTTP/1.x"),
    _line("F08 a version in lower case", b"GET http://{at}/t http/1.1"),
    _line("F08 two spaces", b"GET  http://{at}/t HTTP/1.1"),
    _line("F08 a tab instead of a space", b"GET\thttp://{at}/t HTTP/1.1"),
    _line("F08 a trailing space", b"GET http://{at}/t HTTP/1.1 "),
    _line("F08 a space in the target", b"GET http://{at}/t x HTTP/1.1"),
    _line("F08 no method", b" http://{at}/t HTTP/1.1"),
    _line("F08 a method with a bracket", b"G(T http://{at}/t HTTP/1.1"),
    _line("F08 a control byte in the target", b"GET http://{at}/\x01 HTTP/1.1"),
    _line("F08 another scheme", b"GET ftp://{at}/t HTTP/1.1"),
    _line("F08 a scheme without an authority", b"GET http:///t HTTP/1.1"),
    _line("F08 a scheme with one slash", b"GET http:/{at}/t HTTP/1.1"),
    _line("F08 a relative target", b"GET t HTTP/1.1"),
    _line("F08 a fragment", b"GET http://{at}/t#frag HTTP/1.1"),
    _line("F08 TRACE", b"TRACE http://{at}/t HTTP/1.1", (405,)),
    RawRow("F09 the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    RawRow("F09 a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)),
    RawRow("F09 a SOCKS greeting", b"\x05\x01\x00"),
    RawRow("F09 noise", b"\x00\x01\x02\x03\r\n\r\n"),
)


def _host(case: str, target: bytes, fields: bytes, text: str) -> RawRow:
    return RawRow(case, b"GET " + target + b" HTTP/1.1\r\n" + fields + b"\r\n", text=text)


HOSTS = (
    _host("E09 another host", b"http://{at}/t", b"Host: evil.test:{port}\r\n", MISMATCH),
    _host("E09 another port", b"http://{at}/t", b"Host: allowed.test:1\r\n", MISMATCH),
    _host("E09 no port where the target has one", b"http://{at}/t", b"Host: allowed.test\r\n", MISMATCH),
    _host("E09 a port where the target has none", b"http://allowed.test/t", b"Host: {at}\r\n", MISMATCH),
    _host("E09 a name below", b"http://{at}/t", b"Host: x.{at}\r\n", MISMATCH),
    _host("E09 a denied host before its disguise", b"http://denied.test/t", b"Host: allowed.test\r\n", MISMATCH),
    _host("E09 a Host that is no host", b"http://{at}/t", b"Host: a b\r\n", INVALID_HOST),
    _host("E09 an empty Host", b"http://{at}/t", b"Host:\r\n", INVALID_HOST),
    _host("E09 a list of hosts", b"http://{at}/t", b"Host: {at}, evil.test\r\n", INVALID_HOST),
    _host("E09 two Host fields", b"http://{at}/t", b"Host: {at}\r\nHost: evil.test\r\n", INVALID_HOST),
    _host("E09 two Host fields that agree", b"http://{at}/t", b"Host: {at}\r\nHost: {at}\r\n", INVALID_HOST),
    _host(
        "E09 two Host fields in different case", b"http://{at}/t", b"Host: {at}\r\nhOST: evil.test\r\n", INVALID_HOST
    ),
    _host("E09 a path without any Host", b"/t", b"", "missing host"),
    _host("E09 a path with two Host fields", b"/t", b"Host: {at}\r\nHost: evil.test\r\n", INVALID_HOST),
)

REFUSED_HEADS = (*LENGTHS, *CODINGS, *FIELDS, *LINES, *HOSTS)


def _chunked(case: str, body: bytes) -> RawRow:
    head = b"POST http://{at}/t HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n"
    smuggled = b"GET http://{at}/smuggled HTTP/1.1\r\nHost: {at}\r\n\r\n"
    return RawRow(case, head + body + smuggled, unseen=b"/smuggled")


# The head is good and may have gone ahead; what follows is not, so the exchange ends there for both sides.
BAD_CHUNKS = (
    _chunked("F04 a chunk size that overflows", b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
    _chunked("F04 a negative chunk size", b"-5\r\nhello\r\n0\r\n\r\n"),
    _chunked("F04 a chunk size with a prefix", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _chunked("F04 a chunk size with an underscore", b"1_0\r\nhellohellohello!\r\n0\r\n\r\n"),
    _chunked("F04 a chunk size with a space before it", b" 5\r\nhello\r\n0\r\n\r\n"),
    _chunked("F04 a chunk size that is a word", b"five\r\nhello\r\n0\r\n\r\n"),
    _chunked("F04 an empty chunk size", b"\r\nhello\r\n0\r\n\r\n"),
    _chunked("F04 a chunk without its end", b"5\r\nhello0\r\n\r\n"),
    _chunked("F04 a chunk that is longer than it says", b"5\r\nhello!\r\n0\r\n\r\n"),
    _chunked("F04 a bare line feed after the size", b"5\nhello\r\n0\r\n\r\n"),
    _chunked("F04 a line feed inside an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    _chunked("F04 an extension without an end", b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"),
)
