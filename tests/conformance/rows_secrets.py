"""Class J: what a hook adds to a request and takes away from it, as the origin sees it.

Elsewhere: J02 in `tests/e2e/test_side_doors`; J03 in `test_answers`; J08 and J09 in `tests/e2e/test_secrets`; J11 in
`tests/e2e/test_ca_start` and `tests/addons/test_ca_files`; J12 in `tests/addons/test_leaf_certificates`, and in
`test_client_hello` for names that are denied. Not rows: J06, as there are no placeholders, the client never holds
anything that stands for the secret; J07, as answers are not rewritten, what an origin says is its own affair (that the
echo is not logged is part of J08).
"""

from __future__ import annotations

from tests.kit.hooks import CANARY, Lists

from .rows_inner import BEARER, HOOK_DENIED, PASSED, REFUSED, InnerRow, RawInnerRow, get, post

PATH = "/repos/openai/x"
CRED = "cred.allowed.test"
ONE_TOKEN: Lists = (("authorization", (BEARER,)),)
INJECTED: Lists = (
    ("x-first", (CANARY,)),
    ("x-twice", (f"new {CANARY}",)),
    ("authorization", (f"token {CANARY}",)),
)


def _own(case: str, *fields: tuple[bytes, bytes], more: Lists = ()) -> InnerRow:
    return InnerRow(f"J01 {case}", post(PATH, *fields), at_origin=(*ONE_TOKEN, *more))


SECRETS = (
    _own("nothing of the client's own"),
    _own("its own token", (b"Authorization", b"Bearer mine")),
    _own("its own token in another case", (b"aUTHORIZATION", b"Bearer mine")),
    _own("two tokens of its own", (b"Authorization", b"Bearer a"), (b"authorization", b"Basic b")),
    _own("an empty token", (b"Authorization", b"")),
    _own("a list of tokens", (b"Authorization", b"Bearer a, Bearer b")),
    _own("a token for the proxy", (b"Proxy-Authorization", b"Basic c2VjcmV0"), more=(("proxy-authorization", ()),)),
    _own("a stripped header", (b"X-Strip", b"a"), (b"x-strip", b"b"), more=(("x-strip", ()),)),
    _own("an underscore is another name", (b"x_strip", b"a"), more=(("x_strip", ("a",)), ("x-strip", ()))),
    _own("a stripped name with an underscore", (b"x_under", b"a"), (b"x-under", b"b"),
         more=(("x_under", ()), ("x-under", ("b",)))),
    _own("other headers stay, in order and number", (b"X-B", b"1"), (b"X-A", b"2"), (b"X-B", b"3"), (b"Cookie", b"k=v"),
         more=(("x-b", ("1", "3")), ("x-a", ("2",)), ("cookie", ("k=v",)))),
    InnerRow("J04 several injections, the last of one name wins", get("/echo"), host=CRED, at_origin=INJECTED),
    InnerRow("J04 every header that the hook sets or strips is replaced", get(
        "/echo", (b"Cookie", b"session=1"), (b"X-API-Key", b"k"), (b"X-First", b"f"), (b"X-Twice", b"t"),
        (b"Authorization", b"Bearer mine"),
    ), host=CRED, at_origin=(*INJECTED, ("cookie", ()), ("x-api-key", ()))),
    InnerRow("J04 an injected Host changes nothing", get("/echo"), host=CRED,
             at_origin=(("host", (CRED + ":{port}",)),)),
    InnerRow("J05 a request that only reads", get("/echo"), host="any.allowed.test", at_origin=ONE_TOKEN),
    InnerRow("J05 a body changes nothing", post(PATH, body=b"x" * 70_000), at_origin=ONE_TOKEN),
    InnerRow("J10 no hook, no secret", post("/repos/evil/x"), (HOOK_DENIED,)),
    InnerRow("J10 another method, no secret", get(PATH), (HOOK_DENIED,)),
    InnerRow("J10 a hook without injection adds nothing", get("/repos/public/x", (b"Authorization", b"Bearer mine")),
             (PASSED,), "ordered.allowed.test", at_origin=(("authorization", ("Bearer mine",)),)),
)  # fmt: skip


def _bytes(case: str, fields: bytes, right: tuple[str, ...], unseen: bytes) -> RawInnerRow:
    head = b"POST /repos/openai/x HTTP/1.1\r\nHost: {at}\r\n" + fields + b"\r\n"
    return RawInnerRow(f"J01 {case}", head, right, unseen=unseen)


TRAILERS = (
    b"5\r\nhello\r\n0\r\n"
    b"Authorization: Bearer mine\r\nHost: evil.test\r\nX-Strip: mine\r\nX-Forwarded-For: mine\r\n\r\n"
)
SECRETS_HTTP1 = (
    _bytes("a space behind the name", b"Authorization : Bearer mine\r\n", (REFUSED,), b"mine"),
    _bytes("a tab behind the name", b"Authorization\t: Bearer mine\r\n", (REFUSED,), b"mine"),
    _bytes("a space before the name", b" Authorization: Bearer mine\r\n", (REFUSED,), b"mine"),
    _bytes("a folded token", b"Authorization: Bearer\r\n mine\r\n", (REFUSED,), b"mine"),
    _bytes("a NUL in the name", b"Authorization\x00: Bearer mine\r\n", (REFUSED,), b"mine"),
    _bytes("Connection names the injected header", b"Connection: authorization\r\n", (PASSED,), b"onnection"),
    _bytes("Connection names it beside a token", b"Connection: Authorization\r\nAuthorization: mine\r\n", (PASSED,),
           b"mine"),
    _bytes("Connection names Host and the length", b"Connection: host, content-length\r\nContent-Length: 0\r\n",
           (PASSED, REFUSED), b"onnection"),
    _bytes("tokens in the trailers", b"Transfer-Encoding: chunked\r\n\r\n" + TRAILERS.removesuffix(b"\r\n"), (PASSED,),
           b"mine"),
)  # fmt: skip
