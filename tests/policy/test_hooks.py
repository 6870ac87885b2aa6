"""Which requests a hook lets pass, and which hook it is (spec A4.5, A4.6, B7.3, B7.6)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from codex_network_proxy.policy.decision import HttpUse
from codex_network_proxy.policy.errors import InvalidPattern
from codex_network_proxy.policy.header_edits import HeaderEdits, Injection, SecretRef
from codex_network_proxy.policy.hooks import HookMatch, HookTable, compile_hooks
from codex_network_proxy.policy.hosts import parse_host
from codex_network_proxy.policy.settings import HookSettings, InjectSettings

HOST = parse_host("api.allowed.test")
TOKEN = InjectSettings("authorization", env="TOKEN", prefix="Bearer ")
BASE = HookSettings(
    index=0,
    host=HOST,
    methods=("POST", "PUT"),
    path_prefixes=("/repos/openai/",),
    query=(("state", ("open", "closed")),),
    headers=(("x-github-api-version", ("2022-11-28",)), ("x-trace", ())),
    strip=("authorization",),
    inject=(TOKEN,),
)
GOOD = HttpUse(
    "POST",
    secure=True,
    path="/repos/openai/codex/issues?state=open",
    headers=(("X-GitHub-Api-Version", "2022-11-28"), ("X-Trace", "1")),
)


def hook(index: int = 0, host: str = HOST.text, paths: tuple[str, ...] = ("/",), **changes: object) -> HookSettings:
    settings = HookSettings(index, parse_host(host), methods=("GET",), path_prefixes=paths)
    return replace(settings, **changes)  # type: ignore[arg-type]  # rows name real fields


def index_of(table: HookTable, path: str, method: str = "GET", host: str = HOST.text) -> int | None:
    match = table.match(parse_host(host), HttpUse(method, secure=True, path=path))
    return None if match is None else match.index


MISSES = [
    pytest.param(replace(GOOD, method="GET"), id="another method"),
    pytest.param(replace(GOOD, method="post"), id="the method in lower case: what matched would not be what is sent"),
    pytest.param(replace(GOOD, method="POST\t"), id="the method with a tab (G12)"),
    pytest.param(replace(GOOD, method=" POST"), id="the method with a space"),
    pytest.param(replace(GOOD, method=""), id="no method"),
    pytest.param(replace(GOOD, method="PRI"), id="the preface of HTTP/2 (G12)"),
    pytest.param(replace(GOOD, path="/repos/openai-evil/x?state=open"), id="another path (G01)"),
    pytest.param(replace(GOOD, path="/repos/openai/../evil?state=open"), id="a path that climbs"),
    pytest.param(replace(GOOD, path="/repos/openai/%2e%2e/evil?state=open"), id="a path that climbs by escapes"),
    pytest.param(replace(GOOD, path="/repos/openai/x#?state=open"), id="a fragment (G06)"),
    pytest.param(replace(GOOD, path="/repos/openai/x"), id="no query"),
    pytest.param(replace(GOOD, path="/repos/openai/x?state=all"), id="another query"),
    pytest.param(replace(GOOD, path="/repos/openai/x?state=open&state=all"), id="a second query value"),
    pytest.param(replace(GOOD, headers=()), id="no headers"),
    pytest.param(replace(GOOD, headers=GOOD.headers[:1]), id="one header missing"),
    pytest.param(replace(GOOD, headers=(*GOOD.headers, ("x-github-api-version", "1"))), id="a second header value"),
    pytest.param(replace(GOOD, secure=False), id="plain HTTP (J02)"),
]


def test_a_request_that_meets_every_criterion_matches() -> None:
    assert compile_hooks([BASE]).match(HOST, GOOD) == HookMatch(
        0, HeaderEdits(("authorization",), (Injection("authorization", SecretRef(env="TOKEN"), "Bearer "),))
    )


@pytest.mark.parametrize("use", MISSES)
def test_a_request_that_misses_one_criterion_does_not_match(use: HttpUse) -> None:
    assert compile_hooks([BASE]).match(HOST, use) is None


@pytest.mark.parametrize("missing", ["methods", "path_prefixes"])
def test_a_hook_without_methods_or_paths_matches_nothing(missing: str) -> None:
    assert compile_hooks([replace(BASE, **{missing: ()})]).match(HOST, GOOD) is None  # type: ignore[arg-type]  # real fields


def test_methods_of_the_configuration_are_trimmed_and_in_upper_case() -> None:
    assert index_of(compile_hooks([hook(methods=(" get\t", "Delete"))]), "/", "DELETE") == 0


def test_a_trace_never_gets_a_secret() -> None:
    table = compile_hooks([hook(methods=("TRACE",), inject=(TOKEN,)), hook(1, methods=("TRACE",))])

    assert index_of(table, "/", "TRACE") == 1


def test_the_first_match_wins() -> None:
    table = compile_hooks([hook(0, paths=("/a/b/",)), hook(1, paths=("/a/",)), hook(2)])

    assert [index_of(table, path) for path in ("/a/b/c", "/a/c", "/c")] == [0, 1, 2]


def test_an_earlier_hook_without_a_secret_is_not_shadowed_by_a_later_one_with_it() -> None:
    """(G15)"""
    table = compile_hooks([hook(0, paths=("/public/",)), hook(1, inject=(TOKEN,))])
    match = table.match(HOST, HttpUse("GET", secure=True, path="/public/x"))

    assert match == HookMatch(0, HeaderEdits())


def test_every_host_has_its_own_hooks_in_the_order_of_the_whole_list() -> None:
    table = compile_hooks([hook(0, "b.test", ("/b/",)), hook(1), hook(2, "b.test"), hook(3)])

    assert [host.text for host in table.hosts] == ["b.test", HOST.text]
    assert [entry.index for entry in table.hooks] == [0, 1, 2, 3]
    assert [index_of(table, path, host="b.test") for path in ("/b/x", "/x")] == [0, 2]
    assert index_of(table, "/b/x") == 1


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        pytest.param("api.allowed.test", True, id="the host"),
        pytest.param("API.Allowed.Test.", True, id="the host in another spelling"),
        pytest.param("v1.api.allowed.test", False, id="a subdomain"),
        pytest.param("allowed.test", False, id="a parent"),
        pytest.param("203.0.113.7", True, id="a hooked address"),
        pytest.param("::ffff:203.0.113.7", True, id="a hooked address, mapped"),
        pytest.param("203.0.113.8", False, id="another address"),
    ],
)
def test_a_host_is_covered_in_its_canonical_form(host: str, covered: bool) -> None:
    table = compile_hooks([hook(0), hook(1, "203.0.113.7")])

    assert table.covers(parse_host(host)) is covered
    assert (index_of(table, "/", host=host) is not None) is covered


def test_no_match_on_a_covered_host_is_the_callers_block() -> None:
    """(G13) The table does not say allow: `covers` without a match is a deny."""
    table = compile_hooks([hook(paths=("/a/",))])

    assert table.covers(HOST)
    assert index_of(table, "/b/") is None


def test_an_empty_table_covers_nothing() -> None:
    assert not HookTable().covers(HOST)
    assert index_of(compile_hooks([]), "/") is None


def test_another_host_gets_no_edits() -> None:
    """(J03) A redirect is a new request, with a host of its own."""
    assert compile_hooks([BASE]).match(parse_host("evil.test"), GOOD) is None


@pytest.mark.parametrize(
    ("path", "method", "passes"),
    [
        pytest.param("/o/r.git/info/refs?service=git-upload-pack", "GET", True, id="a fetch asks for refs"),
        pytest.param("/o/r.git/git-upload-pack", "POST", True, id="a fetch asks for objects"),
        pytest.param("/o/r.git/info/refs?service=git-receive-pack", "GET", False, id="a push asks for refs (G18)"),
        pytest.param("/o/r.git/git-receive-pack", "POST", False, id="a push sends objects (G18)"),
        pytest.param("/o/r.git/info/lfs/objects/batch", "POST", False, id="a push of large files (G18)"),
        pytest.param("/o/r.git/git-upload-pack/../git-receive-pack", "POST", False, id="a push that climbs (G18)"),
    ],
)
def test_hooks_can_allow_fetches_and_no_pushes(path: str, method: str, passes: bool) -> None:
    refs = hook(0, paths=("pattern:/*/*/info/refs",), query=(("service", ("git-upload-pack",)),))
    objects = hook(1, paths=("pattern:/*/*/git-upload-pack",), methods=("POST",))

    assert (index_of(compile_hooks([refs, objects]), path, method) is not None) is passes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"path_prefixes": ("pattern:[",)}, r"mitm_hooks\[3\].match.path_prefixes: invalid glob", id="path"
        ),
        pytest.param({"query": (("q", ("pattern:?",)),)}, r"mitm_hooks\[3\].match.query: invalid glob", id="query"),
        pytest.param({"headers": (("h", ("pattern:",)),)}, r"mitm_hooks\[3\].match.headers: invalid glob", id="header"),
    ],
)
def test_a_bad_glob_is_refused_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidPattern, match=message):
        compile_hooks([hook(), hook(3, **changes)])


def test_compiling_and_matching_read_no_secret_and_show_none() -> None:
    """(J08) The table holds references; a prefix or the value of a header may be part of a secret."""
    headers = (("x-hook", ("canary", "pattern:canary*")),)
    table = compile_hooks([hook(inject=(InjectSettings("x-key", file="/run/key", prefix="canary"),), headers=headers)])
    match = table.match(HOST, HttpUse("GET", secure=True, headers=(("X-Hook", "canary"),)))

    assert match is not None
    assert "canary" not in repr((table, match))


def test_a_bad_glob_is_refused_without_its_text() -> None:
    with pytest.raises(InvalidPattern) as caught:
        compile_hooks([hook(headers=(("x-hook", ("pattern:canary?",)),))])

    assert "canary" not in str(caught.value)
