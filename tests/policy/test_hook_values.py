"""What a hook's query keys and headers may hold (spec A4.6, B7.3, B7.6)."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.errors import InvalidPattern
from codex_network_proxy.policy.hook_values import compile_values, headers_hold, parse_form, query_holds

VALUES = [
    pytest.param("open", "open", True, id="the text itself"),
    pytest.param("open", "opened", False, id="not a prefix"),
    pytest.param("open", "Open", False, id="case matters"),
    pytest.param("literal:open", "open", True, id="a literal"),
    pytest.param("literal:", "", True, id="an empty literal is the empty value"),
    pytest.param("", "", True, id="the empty value"),
    pytest.param("literal:pattern:x", "pattern:x", True, id="a literal with the other word"),
    pytest.param("a*", "a*", True, id="a star in a plain value is a star"),
    pytest.param("a*", "ab", False, id="a plain value is no pattern"),
    pytest.param("pattern:a*", "ab/c\n", True, id="a star crosses anything"),
    pytest.param("pattern:a**c", "a/b/c", True, id="two stars are one"),
    pytest.param("pattern:a*c", "abcd", False, id="a pattern is the whole value"),
    pytest.param("pattern:*", "", True, id="a star may be empty"),
    pytest.param("pattern:a", "a\n", False, id="a line end is not the end"),
]

FORMS = [
    pytest.param("", [], id="nothing"),
    pytest.param("a=1&b=2", [("a", "1"), ("b", "2")], id="two fields"),
    pytest.param("&&a=1&", [("a", "1")], id="empty pieces are no fields"),
    pytest.param("a", [("a", "")], id="a name alone"),
    pytest.param("=a", [("", "a")], id="a value alone"),
    pytest.param("a=b=c", [("a", "b=c")], id="the first equals sign parts"),
    pytest.param("a+b=c+d", [("a b", "c d")], id="a plus is a space"),
    pytest.param("a%2Bb=%26%3d", [("a+b", "&=")], id="escapes are undone once, after parting"),
    pytest.param("a=%2526", [("a", "%26")], id="escapes are undone once only"),
    pytest.param("a=%C3%A9", [("a", "\xe9")], id="escapes are UTF-8"),
    pytest.param("a=%00", [("a", "\0")], id="a value may hold anything"),
    pytest.param("a=%", None, id="a percent sign at the end"),
    pytest.param("a=1&b=%zz", None, id="a bad escape in any field"),
    pytest.param("a=%ff", None, id="escapes that are not UTF-8"),
    pytest.param("a=%c0%ae", None, id="an overlong form"),
    pytest.param("%ed%a0%80=1", None, id="a surrogate"),
    pytest.param("a%00b=1", None, id="a name that ends early in C"),
    pytest.param("a%0a=1", None, id="a name with a line end"),
]

QUERIES = [
    pytest.param("state=open", True, id="an allowed value"),
    pytest.param("state=closed", True, id="another allowed value"),
    pytest.param("state=open&page=2", True, id="other keys do not matter"),
    pytest.param("state=open&state=closed", True, id="a repeated key with allowed values only"),
    pytest.param("st%61te=op%65n", True, id="escapes are undone"),
    pytest.param("", False, id="no query"),
    pytest.param("page=2", False, id="the key is missing"),
    pytest.param("State=open", False, id="keys have case"),
    pytest.param("state", False, id="the key without a value"),
    pytest.param("state=all", False, id="another value"),
    pytest.param("state=open,closed", False, id="lists are not split"),
    pytest.param("state=open&state=all", False, id="one good and one bad value"),
    pytest.param("state=all&state=open", False, id="one bad and one good value"),
    pytest.param("state=open&st%61te=all", False, id="a bad value under an escaped key"),
    pytest.param("state=open&state", False, id="a good value and an empty one"),
    pytest.param("state=open%20", False, id="a space after the value"),
    pytest.param("state=open&x=%", False, id="a bad escape elsewhere"),
    pytest.param("state=open&x=%ff", False, id="escapes elsewhere that are not UTF-8"),
    pytest.param("state=open&x=1;state=all", False, id="a bad value for servers that part at semicolons"),
    pytest.param("x=1;state=open", False, id="a good value for servers that part at semicolons only"),
    pytest.param("state=open&x=1;y=2", True, id="a semicolon that changes nothing"),
    pytest.param("state=open&state%00=all", False, id="a key that ends early in C"),
]

GIT = [
    pytest.param("service=git-upload-pack", True, id="a fetch"),
    pytest.param("service=git-receive-pack", False, id="a push (G18)"),
    pytest.param("service=git-upload-pack&service=git-receive-pack", False, id="a fetch and a push (G18)"),
    pytest.param("service=git-receive-pack&service=git-upload-pack", False, id="a push and a fetch (G18)"),
    pytest.param("service=git-upload-pack&serv%69ce=git-receive-pack", False, id="a push under an escaped key (G18)"),
    pytest.param("x;service=git-receive-pack&service=git-upload-pack", False, id="a push after a semicolon (G18)"),
]

V3 = ("X-GitHub-Api-Version", "2022-11-28")
HEADERS = [
    pytest.param([V3], True, id="an allowed value"),
    pytest.param([("x-github-API-version", "2022-11-28")], True, id="names have no case (G11)"),
    pytest.param([V3, ("Accept", "x")], True, id="other headers do not matter"),
    pytest.param([V3, V3], True, id="a repeated header with allowed values only"),
    pytest.param([V3, (V3[0], "2023-01-01")], True, id="two allowed values"),
    pytest.param([], False, id="the header is missing"),
    pytest.param([(V3[0], "2020-01-01")], False, id="another value"),
    pytest.param([V3, (V3[0].lower(), "2020-01-01")], False, id="one good and one bad value (G11)"),
    pytest.param([(V3[0], "2020-01-01"), V3], False, id="one bad and one good value (G11)"),
    pytest.param([(V3[0], "2022-11-28, 2023-01-01")], False, id="comma lists are not split (G11)"),
    pytest.param([(V3[0], " 2022-11-28")], False, id="a space the parser has left in front (G11)"),
    pytest.param([(V3[0], "2022-11-28\t")], False, id="a tab the parser has left behind (G11)"),
    pytest.param([("x_github_api_version", "2022-11-28")], False, id="an underscore is another name (G11)"),
    pytest.param([V3, ("x_github_api_version", "bad")], True, id="an underscore name does not count (G11)"),
    pytest.param([(V3[0], "")], False, id="an empty value"),
    pytest.param([V3, (V3[0], "caf\xe9")], False, id="one value that is not ASCII"),
    pytest.param([V3, ("Connection", "close, X-GitHub-Api-Version")], False, id="a header that ends at the proxy"),
    pytest.param([V3, ("Connection", "close")], True, id="a connection header that names others"),
]


@pytest.mark.parametrize(("entry", "value", "matches"), VALUES)
def test_values_match_as_written(entry: str, value: str, matches: bool) -> None:
    assert compile_values([entry]).match(value) is matches


def test_any_entry_is_enough() -> None:
    values = compile_values(["a", "literal:b", "pattern:c*"])

    assert values.match_all(["a", "b", "cd"])
    assert not values.match_all(["a", "d"])
    assert not values.match_all([])


@pytest.mark.parametrize("entry", [f"pattern:{text}" for text in ("", "a?", "[a]", "{a}", "a\\", "]", "}")])
def test_a_bad_glob_is_refused(entry: str) -> None:
    with pytest.raises(InvalidPattern, match="invalid glob pattern"):
        compile_values(["fine", entry])


@pytest.mark.parametrize(("query", "fields"), FORMS)
def test_a_query_is_decoded_as_a_form(query: str, fields: list[tuple[str, str]] | None) -> None:
    assert parse_form(query) == fields


@pytest.mark.parametrize(("query", "holds"), QUERIES)
def test_a_constrained_key_has_allowed_values_only(query: str, holds: bool) -> None:
    assert query_holds([("state", compile_values(["open", "closed"]))], query) is holds


@pytest.mark.parametrize(("query", "holds"), GIT)
def test_a_hook_for_fetches_lets_no_push_through(query: str, holds: bool) -> None:
    assert query_holds([("service", compile_values(["git-upload-pack"]))], query) is holds


def test_every_constrained_key_counts() -> None:
    constraints = [("a", compile_values(["1"])), ("b", compile_values(["pattern:2*"]))]

    assert query_holds(constraints, "b=23&a=1")
    assert not query_holds(constraints, "a=1")
    assert not query_holds(constraints, "a=1&b=3")


def test_a_key_without_values_holds_for_nothing() -> None:
    assert not query_holds([("a", compile_values([]))], "a=1")


def test_without_constraints_any_query_holds() -> None:
    assert query_holds([], "%zz")


@pytest.mark.parametrize(("headers", "holds"), HEADERS)
def test_a_constrained_header_has_allowed_values_only(headers: list[tuple[str, str]], holds: bool) -> None:
    constraints = [("x-github-api-version", compile_values(["2022-11-28", "2023-01-01"]))]

    assert headers_hold(constraints, headers) is holds


@pytest.mark.parametrize(
    ("headers", "holds"),
    [
        pytest.param([], False, id="the header is missing"),
        pytest.param([("X-Trace", "")], True, id="an empty value is there"),
        pytest.param([("X-Trace", "1"), ("x-trace", "caf\xe9")], True, id="any values are there"),
    ],
)
def test_without_values_being_there_is_enough(headers: list[tuple[str, str]], holds: bool) -> None:
    assert headers_hold([("x-trace", compile_values([]))], headers) is holds


def test_a_pattern_never_matches_what_is_not_ascii() -> None:
    constraints = [("x-name", compile_values(["pattern:*", "caf\xe9"]))]

    assert headers_hold(constraints, [("X-Name", "cafe")])
    assert not headers_hold(constraints, [("X-Name", "caf\xe9")])


def test_without_constraints_any_headers_hold() -> None:
    assert headers_hold([], [])
