"""A plain model of the rules for hooks, and made-up requests: no hook matches what the model does not (A4.5, A4.6).

The model is slow and literal on purpose. It shares no code with the policy: it walks characters where the policy has
expressions, and tries every way to read a star where the policy takes one pass.
"""

from __future__ import annotations

from functools import cache

from hypothesis import example, given, settings
from hypothesis import strategies as st

from codex_network_proxy.policy.decision import HttpUse
from codex_network_proxy.policy.header_edits import Injection, ResolvedEdits, SecretRef, apply, resolve_edits
from codex_network_proxy.policy.hook_values import compile_glob
from codex_network_proxy.policy.hooks import HeaderEdits, compile_hooks
from codex_network_proxy.policy.hosts import parse_host
from codex_network_proxy.policy.settings import HookSettings

HOST = parse_host("api.allowed.test")
HEX = "0123456789abcdefABCDEF"

# ---------------------------------------------------------------- the model


def model_decode(text: str) -> bytes | None:
    """Percent-decoding; None for a malformed escape."""
    out = bytearray()
    at = 0
    while at < len(text):
        if text[at] != "%":
            out += text[at].encode("latin-1", "replace")
            at += 1
            continue
        digits = text[at + 1 : at + 3]
        if len(digits) != 2 or digits[0] not in HEX or digits[1] not in HEX:
            return None
        out.append(int(digits, 16))
        at += 3
    return bytes(out)


def model_path_is_clear(path: str) -> bool:
    if path[:1] != "/" or any(ord(char) <= 0x20 or ord(char) >= 0x7F or char in "\\#" for char in path):
        return False
    for segment in path.split("/"):
        decoded = model_decode(segment)
        if decoded is None or decoded in (b".", b".."):
            return False
        for at, char in enumerate(segment):
            if char == "%" and int(segment[at + 1 : at + 3], 16) in (*range(0x20), 0x7F, 0x2F, 0x5C, 0x25):
                return False
    return True


def model_glob(pattern: str, text: str, *, segments: bool) -> bool:
    @cache
    def at(p: int, t: int) -> bool:
        if p == len(pattern):
            return t == len(text)
        if pattern.startswith("**", p):
            return any(at(p + 2, end) for end in range(t, len(text) + 1))
        if pattern[p] == "*":
            return any(at(p + 1, end) for end in range(t, len(text) + 1) if not (segments and "/" in text[t:end]))
        return t < len(text) and text[t] == pattern[p] and at(p + 1, t + 1)

    return at(0, 0)


def model_entry(entry: str, text: str, *, path: bool) -> bool:
    if entry.startswith("pattern:"):
        return model_glob(entry[len("pattern:") :], text, segments=path)
    plain = entry[len("literal:") :] if entry.startswith("literal:") else entry
    return text.startswith(plain) if path else text == plain


def model_text(text: str) -> str | None:
    decoded = model_decode(text.replace("+", " "))
    try:
        return None if decoded is None else str(decoded, "utf-8")
    except UnicodeDecodeError:
        return None


def model_query(hook: HookSettings, query: str) -> bool:
    for key, allowed in hook.query:
        found = False
        for piece in query.split("&"):
            name, _, value = piece.partition("=")
            if piece and model_text(name) == key:
                text = model_text(value)
                if text is None or not any(model_entry(entry, text, path=False) for entry in allowed):
                    return False
                found = True
        if not found:
            return False
    return True


def model_headers(hook: HookSettings, headers: tuple[tuple[str, str], ...]) -> bool:
    for name, allowed in hook.headers:
        values = [value for sent, value in headers if sent.lower() == name]
        if not values:
            return False
        for value in values:
            if allowed and not any(model_entry(entry, value, path=False) for entry in allowed):
                return False
            if allowed and any(ord(char) > 0x7F for char in value):
                return False
    return True


def model_matches(hook: HookSettings, use: HttpUse) -> bool:
    path, _, query = use.path.partition("?")
    return (
        use.secure
        and use.method in hook.methods
        and model_path_is_clear(path)
        and any(model_entry(entry, path, path=True) for entry in hook.path_prefixes)
        and model_query(hook, query)
        and model_headers(hook, use.headers)
    )


# ---------------------------------------------------------------- made-up hooks and requests

PATH_PIECES = (
    *(
        "/",
        "/",
        "a",
        "b",
        "/a/",
        "..",
        ".",
        "%2e",
        "%2E",
        ";",
        "%3b",
        "%2f",
        "%5C",
        "%25",
        "%00",
        "%0a",
        "%",
        "%4",
        "%zz",
    ),
    *("%c3%a9", "%c0%ae", "\\", "#", " ", "\t", "\x00", "\x7f", "\xe9", "*", "//", "%61", "-", "pattern:"),
)
VALUE_PIECES = (
    "a",
    "b",
    "1",
    "+",
    "%20",
    "%61",
    "%",
    "%zz",
    "%ff",
    "%c3%a9",
    ";",
    "\xe9",
    "*",
    "/",
    "%00",
    "\x00",
    "A",
)
texts = st.lists(st.sampled_from(VALUE_PIECES), max_size=4).map("".join)
paths = st.lists(st.sampled_from(PATH_PIECES), max_size=7).map(lambda pieces: "/" + "".join(pieces))
queries = st.lists(
    st.tuples(st.sampled_from(["a", "b", "%61", "A", "a%00", "", "c"]), st.sampled_from(["=", ""]), texts).map("".join),
    max_size=4,
).map("&".join)
targets = st.one_of(
    paths, st.tuples(paths, st.sampled_from(["?", "??", ""]), queries).map("".join), st.text(max_size=9)
)
headers = st.lists(
    st.tuples(st.sampled_from(["X-A", "x-a", "X-B", "x_a", "X-A ", "Connection"]), texts), max_size=4
).map(tuple)
uses = st.builds(
    HttpUse,
    st.sampled_from(["GET", "GET", "POST", "get", "GET ", ""]),
    secure=st.sampled_from([True, True, True, False]),
    path=targets,
    headers=headers,
)

glob_texts = st.lists(st.sampled_from(["*", "**", "a", "b", "1", "/", "%61", "\xe9", "-"]), min_size=1, max_size=7).map(
    "".join
)
entries = st.one_of(
    texts,
    texts.map(lambda text: f"literal:{text}"),
    glob_texts.map(lambda text: f"pattern:{text}"),
    st.just("pattern:*"),
)
path_entries = st.one_of(
    paths,
    st.sampled_from(["/", "/a", "/a/", "literal:/", "pattern:/**", "pattern:/*", "pattern:/*/*"]),
    glob_texts.map(lambda text: f"pattern:/{text}"),
)
constraint_lists = st.lists(entries, min_size=1, max_size=3).map(tuple)
hooks = st.builds(
    HookSettings,
    st.just(0),
    st.just(HOST),
    methods=st.just(("GET", "POST")),
    path_prefixes=st.lists(path_entries, min_size=1, max_size=3).map(tuple),
    query=st.one_of(
        st.just(()), st.lists(st.tuples(st.sampled_from(["a", "b"]), constraint_lists), max_size=2).map(tuple)
    ),
    headers=st.one_of(
        st.just(()),
        st.lists(st.tuples(st.sampled_from(["x-a", "x-b"]), st.one_of(st.just(()), constraint_lists)), max_size=2).map(
            tuple
        ),
    ),
)


@settings(max_examples=1500, deadline=None)
@given(hook=hooks, use=uses)
@example(
    hook=HookSettings(0, HOST, ("GET",), ("/a/",), query=(("a", ("1",)),)),
    use=HttpUse("GET", secure=True, path="/a/?a=1&%61=2"),
)
def test_no_hook_matches_what_the_model_does_not(hook: HookSettings, use: HttpUse) -> None:
    if compile_hooks([hook]).match(HOST, use) is not None:
        assert model_matches(hook, use)


CLEAN = "abcXYZ019-._~"


@settings(max_examples=500, deadline=None)
@given(
    prefix=st.text(CLEAN, max_size=5),
    rest=st.lists(st.text(CLEAN, min_size=1, max_size=5).filter(lambda text: text.strip(".")), max_size=3),
    value=st.text(CLEAN, max_size=5),
    header=st.text(CLEAN, max_size=5),
)
def test_a_plain_request_matches_whatever_the_model_matches(
    prefix: str, rest: list[str], value: str, header: str
) -> None:
    """The policy may be stricter than the model for odd requests only, or it would be no use."""
    hook = HookSettings(
        0,
        HOST,
        ("GET",),
        (f"/x{prefix}/",),
        query=(("q", (f"literal:{value}",)),),
        headers=(("h", (f"literal:{header}",)),),
    )
    use = HttpUse("GET", secure=True, path=f"/x{prefix}/{'/'.join(rest)}?q={value}", headers=(("H", header),))

    assert model_matches(hook, use)
    assert compile_hooks([hook]).match(HOST, use) is not None


@settings(max_examples=1500, deadline=None)
@given(pattern=glob_texts, text=st.text("ab1/-", max_size=10), segments=st.booleans())
def test_a_glob_is_the_model_of_a_glob(pattern: str, text: str, segments: bool) -> None:
    glob = compile_glob(pattern, separator="/" if segments else "")

    assert glob.match(text) is model_glob(pattern, text, segments=segments)


class OneSecret:
    def environment(self, name: str) -> str:
        return "s3cr3t"

    def file(self, path: str) -> str:
        return "s3cr3t"


NAMES = ("authorization", "cookie", "x-key", "x_key")
field_names = st.sampled_from(NAMES).flatmap(lambda name: st.sampled_from([name, name.title(), name.upper()]))
fields = st.lists(st.tuples(field_names.map(str.encode), st.binary(max_size=3)), max_size=8)
name_lists = st.lists(st.sampled_from(NAMES), max_size=3)


@given(sent=fields, strip=name_lists, inject=name_lists)
def test_after_the_edits_nothing_is_left_of_a_name_but_the_secret(
    sent: list[tuple[bytes, bytes]], strip: list[str], inject: list[str]
) -> None:
    edits = HeaderEdits(tuple(strip), tuple(Injection(name, SecretRef(env="S")) for name in inject))
    resolved: ResolvedEdits = resolve_edits(edits, OneSecret())
    result = apply(sent, resolved)

    for name in NAMES:
        before = [value for key, value in sent if key.lower() == name.encode()]
        after = [value for key, value in result if key.lower() == name.encode()]
        if name in inject:
            assert after == [b"s3cr3t"]
        else:
            assert after == ([] if name in strip else before)
