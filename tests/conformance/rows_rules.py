"""Class G: which requests a hook lets pass, by method, path, query and header.

Elsewhere: G14 in `tests/e2e/test_side_doors`. Not rows: G16, as hooks without interception are legal here and close the
host instead (also in `test_side_doors`); G17, as no rule looks into bodies, and `match.body` is refused at start.
"""

from __future__ import annotations

from tests.kit.inner import Inner

from .rows_inner import (
    BEARER,
    CUT,
    HOOK_DENIED,
    LIMITED,
    METHOD,
    PASSED,
    RAW,
    REFUSED,
    InnerRow,
    RawInnerRow,
    get,
    post,
)

TOKEN = (("authorization", (BEARER,)),)
NO_TOKEN = (("authorization", ()),)
CLOSED = (HOOK_DENIED, REFUSED)
"""An ambiguous path may be no HTTP at all to one of the readers before the hook; nothing passes either way."""


def _passes(case: str, *paths: str) -> tuple[InnerRow, ...]:
    return tuple(InnerRow(f"{case} {path}", post(path), at_origin=TOKEN) for path in paths)


def _blocked(case: str, *paths: str) -> tuple[InnerRow, ...]:
    return tuple(InnerRow(f"{case} {path}", post(path), (HOOK_DENIED,)) for path in paths)


def _closed(case: str, *paths: bytes) -> tuple[InnerRow, ...]:
    return tuple(InnerRow(f"{case} {path!r}", post(path), CLOSED) for path in paths)


PATHS = (
    *_passes("G01 below the prefix:", "/repos/openai/x", "/repos/openai/", "/repos/openai/x/y/z"),
    *_blocked("G01 beside the prefix:", "/repos/openai-evil/x", "/repos/openaix", "/repos/openai", "/repos/open"),
    *_blocked("G01 another case:", "/Repos/openai/x", "/repos/OpenAI/x"),
    *_blocked("G01 another place:", "/", "/x/repos/openai/x", "//repos/openai/x", "/repos//openai/x"),
    *_passes("G01 bytes that stay as they are:", "/repos/openai//x", "/repos/openai/x%20y", "/repos/openai/%C3%A9",
             "/repos/openai/%41", "/repos/openai/...", "/repos/openai/..x", "/repos/openai/x..", "/repos/openai/.git"),
    InnerRow("G01 a prefix without a slash is a prefix", post("/repos/openai-evil/x"), host="prefix.allowed.test"),
    InnerRow("G01 the prefix without a slash itself", post("/repos/openai"), host="prefix.allowed.test"),
    InnerRow("G01 beside the prefix without a slash", post("/repos/open"), (HOOK_DENIED,), "prefix.allowed.test"),
    *_closed("G02 up and out:", b"/repos/openai/../evil", b"/repos/openai/..", b"/repos/openai/x/../../../evil"),
    *_closed("G02 a dot segment:", b"/repos/openai/./x", b"/repos/openai/.", b"/repos/openai/x/."),
    *_closed("G03 escaped dots:", b"/repos/openai/%2e%2e/evil", b"/repos/openai/%2E%2E/evil", b"/repos/openai/.%2e",
             b"/repos/openai/%2e./evil", b"/repos/openai/%2e", b"/repos/openai/x/%2E/y"),
    *_closed("G04 an escaped slash:", b"/repos/openai%2f..%2fevil", b"/repos/openai/x%2Fy", b"/repos%2fopenai/x",
             b"/repos/openai/..%2f..%2fevil"),
    *_closed("G04 a backslash:", b"/repos/openai/%5c..%5cevil", b"/repos/openai/\\..\\evil", b"/repos/openai/%5Cx",
             b"/repos/openai/..\\evil"),
    *_closed("G05 escaped twice:", b"/repos/openai/%252e%252e/evil", b"/repos/openai/%25", b"/repos/openai/%252f"),
    *_closed("G06 control characters:", b"/repos/openai/%00", b"/repos/openai/x%0d%0aX-A:%20b", b"/repos/openai/%0a",
             b"/repos/openai/%7f", b"/repos/openai/%1b", b"/repos/openai/%09"),
    *_closed("G06 a malformed escape:", b"/repos/openai/%", b"/repos/openai/%2", b"/repos/openai/%zz",
             b"/repos/openai/%u002e"),
    *_closed("G06 bytes that are no ASCII:", b"/repos/openai/\xc3\xa9", b"/repos/openai/\xff"),
    *_closed("G06 dots in too many bytes:", b"/repos/openai/%c0%ae%c0%ae/evil", b"/repos/openai/%e0%80%ae"),
    *_closed("G06 a fragment:", b"/repos/openai/x#frag", b"/repos/openai/#/../evil"),
    *_passes("G06 a query is not part of the path:", "/repos/openai/?x", "/repos/openai/x?../../evil",
             "/repos/openai/x?%2e%2e", "/repos/openai/x?a=b?c", "/repos/openai/x??"),
    *_blocked("G06 the prefix in the query:", "/repos/openai?x", "/evil?/repos/openai/x", "/?x=/repos/openai/"),
    *_closed("G07 above the root:", b"/../x", b"/..", b"/../repos/openai/x", b"/%2e%2e/repos/openai/x"),
    *_passes("G08 a path parameter:", "/repos/openai/x;jsessionid=1", "/repos/openai/;a=b/c", "/repos/openai/x;v=1.0"),
    *_closed("G08 a dot segment with a parameter:", b"/repos/openai/..;/evil", b"/repos/openai/..;a=b/evil",
             b"/repos/openai/%2e%2e;x/evil", b"/repos/openai/..%3bx/evil", b"/repos/openai/.;/x"),
    *_blocked("G08 a parameter inside the prefix:", "/repos;x/openai/y", "/repos/openai;x/y"),
)  # fmt: skip


GLOBBED = "globs.allowed.test"


def _glob(path: str, *right: str) -> InnerRow:
    return InnerRow(f"G09 {path} {right[0]}", get(path), right, GLOBBED)


GLOBS = (
    _glob("/repos/x/issues", PASSED),
    _glob("/repos//issues", HOOK_DENIED),
    _glob("/repos/x/y/issues", HOOK_DENIED),
    _glob("/repos/x/issues/1", HOOK_DENIED),
    _glob("/x/repos/x/issues", HOOK_DENIED),
    _glob("/a/b/c/z", PASSED),
    _glob("/a/z", HOOK_DENIED),
    _glob("/a/b/../z", HOOK_DENIED, REFUSED),
    _glob("/b/*/x", PASSED),
    _glob("/b/y/x", HOOK_DENIED),
)


def _method(name: bytes, *right: str) -> InnerRow:
    return InnerRow(f"G10 {name!r}", Inner(name, b"/repos/openai/x"), right)


METHODS = (
    _method(b"POST", PASSED),
    _method(b"PUT", PASSED),
    _method(b"GET", HOOK_DENIED),
    _method(b"DELETE", HOOK_DENIED),
    _method(b"PATCH", HOOK_DENIED),
    _method(b"OPTIONS", HOOK_DENIED),
    # Servers tell `post` from `POST`, so what is matched is what is sent.
    _method(b"post", HOOK_DENIED),
    _method(b"Post", HOOK_DENIED),
    _method(b"POSTS", HOOK_DENIED),
    _method(b"PROPFIND", HOOK_DENIED),
    _method(b"TRACE", "405", HOOK_DENIED),
    _method(b"TRACK", HOOK_DENIED),
)


def _limited(name: bytes, *right: str, host: str = RAW, body: bytes = b"", fields: int = 0) -> InnerRow:
    more = ((b"Content-Length", b"0"),) if fields else ()
    case = f"G12 {name!r} on {host.partition('.')[0]}" + (
        " with a body" if body else " with length 0" if fields else ""
    )
    return InnerRow(case, Inner(name, b"/echo", more, body), right, host, LIMITED)


ANY = "any.allowed.test"
LIMITED_METHODS = (
    _limited(b"GET", PASSED),
    _limited(b"HEAD", PASSED),
    _limited(b"OPTIONS", PASSED),
    _limited(b"GET", PASSED, host=ANY),
    *(
        _limited(name, METHOD, host=host)
        for host in (RAW, ANY)
        for name in (b"POST", b"PUT", b"DELETE", b"PATCH", b"PROPFIND")
    ),
    _limited(b"PURGE", METHOD),
    _limited(b"post", METHOD),
    _limited(b"get", METHOD),
    _limited(b"Get", METHOD),
    _limited(b"GETS", METHOD),
    _limited(b"TRACE", METHOD, "405"),
    _limited(b"PRI", METHOD, REFUSED, CUT),
    *(_limited(name, METHOD, host=host, body=b"x") for host in (RAW, ANY) for name in (b"GET", b"HEAD", b"OPTIONS")),
    _limited(b"GET", PASSED, fields=1),
    InnerRow("G12 a method in the query is the origin's own affair", get("/echo?_method=DELETE"),
             host=RAW, policy=LIMITED),
    InnerRow("G12 no hook, in limited mode", get("/nope"), (HOOK_DENIED,), GLOBBED, LIMITED),
    InnerRow("G12 no hook and no method, in limited mode", post("/nope"), (HOOK_DENIED,), GLOBBED, LIMITED),
)  # fmt: skip


def _query(query: str, *right: str, host: str = "query.allowed.test") -> InnerRow:
    return InnerRow(f"G11 {host.partition('.')[0]} ?{query} {right[0]}", get(f"/repos/x?{query}"), right, host)


def _two(query: str, *right: str) -> InnerRow:
    return _query(query, *right, host="two.allowed.test")


QUERIES = (
    InnerRow("G11 no query at all", get("/repos/x"), (HOOK_DENIED,), "query.allowed.test"),
    *(_query(query, PASSED) for query in (
        "state=open", "state=closed", "state=in+progress", "state=in%20progress", "a=b&state=open&c=d", "state=%6fpen",
        "st%61te=open", "state=open&state=closed", "state=open&&x", "x=state&state=open", "state=open&other=%C3%A9",
    )),
    *(_query(query, HOOK_DENIED, REFUSED) for query in (
        "", "state", "state=", "state=Open", "State=open", "state=opened", "state=open+", "state[]=open", "xstate=open",
        "state=open&state=all", "state=all&state=open", "state=open&st%61te=all", "state=open&state",
        "state=open;state=all",
        "x=1;state=open&state=all", "state=open&x=%zz", "state=open%00", "state%00=open&state=all", "state=open%0a",
        "state=%u006fpen", "state=open&state%00x=all", "?state=open", "state==open", "state=open#state=all",
    )),
    _two("a=1&b=xyz", PASSED),
    _two("b=xz&a=1", PASSED),
    _two("b=*&a=1", PASSED),
    _two("a=1&b=x%26/z", PASSED),
    _two("a=1", HOOK_DENIED),
    _two("b=xz", HOOK_DENIED),
    _two("a=1&b=xy", HOOK_DENIED),
    _two("a=1&b=ayz", HOOK_DENIED),
    _two("a=2&b=xz", HOOK_DENIED),
    _two("a=1&b=**", HOOK_DENIED),
)  # fmt: skip

VERSION, PRESENT, GLOB = (b"X-GitHub-Api-Version", b"2022-11-28"), (b"X-Present", b"1"), (b"X-Glob", b"v1.7")
HEADERS_HOST = "headers.allowed.test"


def _headers(case: str, *fields: tuple[bytes, bytes], right: tuple[str, ...] = (HOOK_DENIED,)) -> InnerRow:
    return InnerRow(f"G11 {case}", get("/repos/x", *fields), right, HEADERS_HOST)


def _header_bytes(case: str, version: bytes, right: tuple[str, ...]) -> RawInnerRow:
    lines = b"GET /repos/x HTTP/1.1\r\nHost: {at}\r\nX-Present: 1\r\nX-Glob: v1.7\r\n"
    unseen = b"" if right == (PASSED,) else b"/repos"
    return RawInnerRow(f"G11 {case}", lines + version + b"\r\n\r\n", right, HEADERS_HOST, unseen=unseen)


HEADERS = (
    _headers("all headers are there", VERSION, PRESENT, GLOB, right=(PASSED,)),
    _headers("in another order, with others", GLOB, (b"X-Other", b"1"), PRESENT, VERSION, right=(PASSED,)),
    _headers("the right value twice", VERSION, VERSION, PRESENT, GLOB, right=(PASSED,)),
    _headers("an empty value where any will do", VERSION, (b"X-Present", b""), GLOB, right=(PASSED,)),
    _headers("the first header is missing", PRESENT, GLOB),
    _headers("the second header is missing", VERSION, GLOB),
    _headers("the third header is missing", VERSION, PRESENT),
    _headers("another value", (VERSION[0], b"2022-11-29"), PRESENT, GLOB),
    _headers("a longer value", (VERSION[0], b"2022-11-28x"), PRESENT, GLOB),
    _headers("the right value and another", VERSION, (VERSION[0], b"1999-01-01"), PRESENT, GLOB),
    _headers("another value and the right one", (VERSION[0], b"1999-01-01"), VERSION, PRESENT, GLOB),
    _headers("a list of values", (VERSION[0], b"2022-11-28, 1999-01-01"), PRESENT, GLOB),
    _headers("a list of right values", (VERSION[0], b"2022-11-28, 2022-11-28"), PRESENT, GLOB),
    _headers("underscores instead of hyphens", (b"X_GitHub_Api_Version", b"2022-11-28"), PRESENT, GLOB),
    _headers("bytes that are no ASCII", (VERSION[0], b"2022-11-28\xc3\xa9"), PRESENT, GLOB),
    _headers("a value outside the pattern", VERSION, PRESENT, (b"X-Glob", b"v2.7")),
    _headers("one value outside the pattern", VERSION, PRESENT, GLOB, (b"X-Glob", b"v2.7")),
)
HEADER_BYTES = (
    _header_bytes("a name in another case", b"x-gItHuB-aPi-vErSiOn: 2022-11-28", (PASSED,)),
    _header_bytes("white space around a value", b"X-GitHub-Api-Version: \t 2022-11-28 \t", (PASSED,)),
    _header_bytes("white space before the colon", b"X-GitHub-Api-Version : 2022-11-28", (REFUSED,)),
    _header_bytes("a folded value", b"X-GitHub-Api-Version: 2022-11-28\r\n ,1999", (REFUSED,)),
    _header_bytes(
        "a header that Connection takes away", b"X-GitHub-Api-Version: 2022-11-28\r\nConnection: x-github-api-version",
        (HOOK_DENIED,),
    ),
    _header_bytes(
        "one that Connection takes away in another case",
        b"X-GitHub-Api-Version: 2022-11-28\r\nConnection: close, X-PRESENT",
        (HOOK_DENIED,),
    ),
    RawInnerRow("G10 a tab after the method", b"POST\t/repos/openai/x HTTP/1.1\r\nHost: {at}\r\n\r\n", (REFUSED,)),
    RawInnerRow("G10 a space before the method", b" POST /repos/openai/x HTTP/1.1\r\nHost: {at}\r\n\r\n", (REFUSED,)),
    RawInnerRow(
        "G12 chunks with GET in limited mode",
        b"GET /echo HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        (METHOD,), RAW, LIMITED, unseen=b"GET",
    ),
    RawInnerRow(
        "G12 a body that is announced with GET and never comes",
        b"GET /echo HTTP/1.1\r\nHost: {at}\r\nContent-Length: 5\r\n\r\n",
        (METHOD,), RAW, LIMITED, unseen=b"GET",
    ),
)  # fmt: skip


def _git(case: str, inner: Inner, right: str) -> InnerRow:
    return InnerRow(f"G18 {case}", inner, (right,), "git.allowed.test")


ORDERED, REVERSED = "ordered.allowed.test", "reversed.allowed.test"
REFS = "/repos/x.git/info/refs"
ORDER = (
    InnerRow("G13 the first hook that matches wins", get("/repos/public/x"), host=ORDERED, at_origin=NO_TOKEN),
    InnerRow("G13 what the first leaves to the second", get("/repos/x"), host=ORDERED, at_origin=TOKEN),
    InnerRow("G13 a method that the first does not have", post("/repos/public/x"), host=ORDERED, at_origin=TOKEN),
    InnerRow("G15 a catch-all that stands first wins", get("/repos/public/x"), host=REVERSED, at_origin=TOKEN),
    InnerRow("G13 no hook matches, in full mode", get("/x"), (HOOK_DENIED,), ORDERED),
    _git("upload-pack is listed", get(f"{REFS}?service=git-upload-pack"), PASSED),
    _git("receive-pack is not", get(f"{REFS}?service=git-receive-pack"), HOOK_DENIED),
    _git("both services", get(f"{REFS}?service=git-upload-pack&service=git-receive-pack"), HOOK_DENIED),
    _git("no service, which old clients ask for", get(REFS), HOOK_DENIED),
    _git("posting to upload-pack", post("/repos/x.git/git-upload-pack"), PASSED),
    _git("posting to receive-pack", post("/repos/x.git/git-receive-pack"), HOOK_DENIED),
    _git("a batch of large files", post("/repos/x.git/info/lfs/objects/batch"), HOOK_DENIED),
    _git("the right end of another path", post("/repos/x.git/git-receive-pack/git-upload-pack"), HOOK_DENIED),
)  # fmt: skip

RULES = (*PATHS, *GLOBS, *METHODS, *LIMITED_METHODS, *QUERIES, *HEADERS, *ORDER)
