"""F06: HTTP/2 that is no HTTP, or means two things. The stream ends, or gets one 400; the origin sees nothing."""

from __future__ import annotations

from .rows_inner import CUT, FULL, HOOK_DENIED, LIMITED, METHOD, PASSED, RAW, REFUSED, H2Row

Pair = tuple[bytes, bytes]
METHOD_, SCHEME, AUTHORITY = (b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"{at}")
PATH: Pair = (b":path", b"/repos/openai/x")
PSEUDO: tuple[Pair, ...] = (METHOD_, SCHEME, AUTHORITY, PATH)
CLOSED = (REFUSED, CUT, HOOK_DENIED)
SMUGGLED = b"DELETE /repos/smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n"


def _field(case: str, name: bytes, value: bytes, right: tuple[str, ...] = (REFUSED, CUT)) -> H2Row:
    return H2Row(f"F06 {case}", (*PSEUDO, (name, value)), right)


def _replaced(case: str, name: bytes, value: bytes, right: tuple[str, ...] = CLOSED) -> H2Row:
    fields = tuple((key, value if key == name else old) for key, old in PSEUDO)
    return H2Row(f"F06 {case}", fields, right)


def _body(case: str, *fields: Pair, body: bytes = b"hello", right: tuple[str, ...] = (REFUSED, CUT, "502")) -> H2Row:
    return H2Row(f"F06 {case}", (*PSEUDO, *fields), right, body, arrives=1)


FIELDS = (
    _field("a line break in a value", b"x-a", b"b\r\nauthorization: mine"),
    _field("a line feed in a value", b"x-a", b"b\nx-c: d"),
    _field("a carriage return in a value", b"x-a", b"b\rx-c: d"),
    _field("a NUL in a value", b"x-a", b"b\x00c"),
    _field("a control byte in a value", b"x-a", b"b\x1bc"),
    _field("a request in a value", b"x-a", b"b\r\n\r\n" + SMUGGLED),
    _field("a line break in a name", b"x-a\r\nx-b", b"c"),
    _field("a space in a name", b"x a", b"b"),
    _field("a space behind a name", b"authorization ", b"Bearer mine"),
    _field("a colon in a name", b"x-a: b\r\nx-c", b"d"),
    _field("capitals in a name", b"X-A", b"b"),
    _field("the injected name in capitals", b"Authorization", b"Bearer mine"),
    _field("an empty name", b"", b"b"),
    _field("bytes that are no ASCII in a name", b"x-\xc3\xa9", b"b"),
    _field("a coding", b"transfer-encoding", b"chunked"),
    _field("a coding of another kind", b"transfer-encoding", b"identity"),
    _field("a field of the connection", b"connection", b"keep-alive"),
    _field("another field of the connection", b"keep-alive", b"timeout=5"),
    _field("a field of the proxy's connection", b"proxy-connection", b"keep-alive"),
    _field("an upgrade", b"upgrade", b"websocket"),
    _field("TE with more than trailers", b"te", b"gzip"),
    _field("an unknown pseudo-header", b":x-pseudo", b"b"),
    _field("an answer's pseudo-header", b":status", b"200"),
    _field("a second path", b":path", b"/evil"),
    _field("a second method", b":method", b"DELETE"),
    _field("a second scheme", b":scheme", b"http"),
    H2Row(
        "F06 a head of 300 kB", (*PSEUDO, *((b"x-%d" % at, b"a" * 1000) for at in range(300))), (REFUSED, CUT, "431")
    ),
)

PSEUDO_HEADERS = (
    H2Row("F06 pseudo-headers behind a field", ((b"x-a", b"b"), *PSEUDO)),
    H2Row("F06 the path behind a field", (METHOD_, SCHEME, AUTHORITY, (b"x-a", b"b"), PATH)),
    H2Row("F06 no method", (SCHEME, AUTHORITY, PATH)),
    H2Row("F06 no scheme", (METHOD_, AUTHORITY, PATH)),
    H2Row("F06 no path", (METHOD_, SCHEME, AUTHORITY)),
    _replaced("an empty path", b":path", b""),
    _replaced("a path without a slash", b":path", b"repos/openai/x"),
    _replaced("a star as path", b":path", b"*"),
    _replaced("a path with a space", b":path", b"/repos/openai/x y"),
    _replaced("a path with a whole request", b":path", b"/repos/openai/x HTTP/1.1\r\nHost: evil.test\r\n\r\nGET /y"),
    _replaced("a path with a line feed", b":path", b"/repos/openai/x\nx: y"),
    _replaced("a path with a NUL", b":path", b"/repos/openai/x\x00"),
    _replaced("a path with a fragment", b":path", b"/repos/openai/x#y"),
    _replaced("an authority with a line break", b":authority", b"{at}\r\nx-a: b"),
    _replaced("an authority with user information", b":authority", b"me@{at}"),
    _replaced("an authority with a path", b":authority", b"{at}/x"),
    _replaced("a method with a space", b":method", b"POST /evil HTTP/1.1\r\nx-a: b\r\n\r\nPOST"),
    _replaced("a method with a line break", b":method", b"POST\r\nx-a: b"),
    _replaced("an empty method", b":method", b""),
    _replaced("a scheme with a line break", b":scheme", b"https\r\nx-a: b", (*CLOSED, "mitm_required")),
)

BODIES = (
    _body("a body of the length that was announced", (b"content-length", b"5"), right=(PASSED,)),
    _body("a body without a length", body=SMUGGLED, right=(PASSED,)),
    _body("a body longer than announced", (b"content-length", b"5"), body=b"hello" + SMUGGLED),
    _body("a body shorter than announced", (b"content-length", b"500"), body=SMUGGLED),
    _body("a body behind length 0", (b"content-length", b"0"), body=SMUGGLED),
    _body("two lengths that differ", (b"content-length", b"5"), (b"content-length", str(len(SMUGGLED)).encode()),
          body=SMUGGLED),
    _body("two lengths that agree", (b"content-length", b"5"), (b"content-length", b"5"), right=(PASSED, REFUSED, CUT)),
    _body("a list of lengths", (b"content-length", b"5, 5")),
    _body("a length with a sign", (b"content-length", b"+5")),
    _body("a negative length", (b"content-length", b"-5")),
    _body("a hexadecimal length", (b"content-length", b"0x5")),
    _body("a length that is no number", (b"content-length", b"five")),
    _body("a length of 30 digits", (b"content-length", b"9" * 30)),
    H2Row("F06 a length without a body", (*PSEUDO, (b"content-length", b"5")), (REFUSED, CUT, "502"), arrives=1),
    H2Row("F06 trailers", PSEUDO, (PASSED,), b"hello", ((b"x-sum", b"1"),), arrives=1),
    H2Row("F06 the injected header in the trailers", PSEUDO, (PASSED, REFUSED, CUT), b"hello",
          ((b"authorization", b"Bearer mine"),), arrives=1),
    # Trailers end at the proxy, so these may be refused or left out.
    H2Row("F06 a pseudo-header in the trailers", PSEUDO, (REFUSED, CUT, PASSED), b"hello", ((b":path", b"/evil"),),
          arrives=1),
    H2Row("F06 a line break in the trailers", PSEUDO, (REFUSED, CUT, PASSED), b"hello",
          ((b"x-a", b"b\r\nauthorization: mine"),), arrives=1),
    H2Row("A4 a body without a length in limited mode", ((b":method", b"GET"), SCHEME, AUTHORITY, (b":path", b"/echo")),
          (METHOD,), b"x", host=RAW, policy=LIMITED),
    H2Row("F06 a cookie in pieces", (*PSEUDO, (b"cookie", b"a=1"), (b"cookie", b"b=2")), (PASSED,), arrives=1),
    H2Row("F06 TE with trailers", (*PSEUDO, (b"te", b"trailers")), (PASSED,), arrives=1, policy=FULL),
)  # fmt: skip

HTTP2 = (*FIELDS, *PSEUDO_HEADERS, *BODIES)
