"""Which request targets a hook may match at all, and which paths its patterns accept (spec A4.5, B7.3, B7.6)."""

from __future__ import annotations

from time import perf_counter

import pytest

from codex_network_proxy.policy.errors import InvalidPattern
from codex_network_proxy.policy.paths import compile_paths, split_target

CLEAR = [
    pytest.param("/", ("/", ""), id="the root"),
    pytest.param("/repos/openai/x", ("/repos/openai/x", ""), id="a plain path"),
    pytest.param("/repos/openai/x?a=1&b", ("/repos/openai/x", "a=1&b"), id="a path and a query"),
    pytest.param("/repos/openai?", ("/repos/openai", ""), id="an empty query"),
    pytest.param("/repos/openai/?x", ("/repos/openai/", "x"), id="a query after a slash"),
    pytest.param("/a?b?c", ("/a", "b?c"), id="only the first question mark parts"),
    pytest.param("/a%20b/%C3%A9", ("/a%20b/%C3%A9", ""), id="escapes stay as they are"),
    pytest.param("/a/...", ("/a/...", ""), id="three dots are a name"),
    pytest.param("/a/.git/..b/c.", ("/a/.git/..b/c.", ""), id="names with dots at their ends"),
    pytest.param(
        "/a/b;jsessionid=1/c;v=2", ("/a/b;jsessionid=1/c;v=2", ""), id="path parameters stay as they are (G08)"
    ),
    pytest.param("/a//b/", ("/a//b/", ""), id="empty segments stay as they are"),
    pytest.param("/a/%3fq%23f", ("/a/%3fq%23f", ""), id="an escaped question mark and hash are part of a name"),
    pytest.param("/a?u=../%2f%00\\", ("/a", "u=../%2f%00\\"), id="the query has no segments"),
]

AMBIGUOUS = [
    pytest.param("", id="nothing"),
    pytest.param("*", id="the asterisk form"),
    pytest.param("repos/openai", id="no slash in front"),
    pytest.param("https://api.allowed.test/repos", id="the absolute form"),
    pytest.param("?x=/repos", id="a query alone"),
    pytest.param("/repos/openai/..", id="two dots at the end"),
    pytest.param("/repos/openai/../evil", id="two dots inside"),
    pytest.param("/../x", id="above the root (G07)"),
    pytest.param("/.", id="one dot at the root"),
    pytest.param("/repos/openai/.", id="one dot at the end (G08)"),
    pytest.param("/repos/./openai", id="one dot inside"),
    pytest.param("/repos/openai/../evil?x=1", id="two dots before a query"),
    pytest.param("/repos/openai/..?x=1", id="two dots next to a query"),
    pytest.param("/a/%2e%2e/b", id="escaped dots"),
    pytest.param("/a/%2E%2E/b", id="escaped dots in upper case"),
    pytest.param("/a/.%2e/b", id="a dot and an escaped dot"),
    pytest.param("/a/%2E./b", id="an escaped dot and a dot"),
    pytest.param("/a/%2e", id="one escaped dot at the end"),
    pytest.param("/a/..;/b", id="two dots with an empty path parameter"),
    pytest.param("/a/..;x=1/b", id="two dots with a path parameter"),
    pytest.param("/a/%2e%2e%3b/b", id="two dots with an escaped path parameter"),
    pytest.param("/a/.;", id="one dot with a path parameter"),
    pytest.param("/repos/openai%2f..%2fevil", id="an escaped slash (G04)"),
    pytest.param("/repos/%2Fopenai", id="an escaped slash in upper case (G04)"),
    pytest.param("/a%5c..%5cb", id="an escaped backslash (G04)"),
    pytest.param("/a%5Cb", id="an escaped backslash in upper case"),
    pytest.param("/a\\b", id="a raw backslash (G04)"),
    pytest.param("/a%252e", id="an escaped percent sign"),
    pytest.param("/a%00b", id="an escaped NUL (G06)"),
    pytest.param("/a%0d%0ab", id="an escaped line end (G06)"),
    pytest.param("/a%1f", id="the last escaped control character"),
    pytest.param("/a%7F", id="an escaped delete"),
    pytest.param("/a%", id="a percent sign at the end"),
    pytest.param("/a%2", id="half an escape"),
    pytest.param("/a%zz", id="an escape that is not hexadecimal"),
    pytest.param("/a%2\N{FULLWIDTH DIGIT FIVE}", id="a digit that is not ASCII"),
    pytest.param("/a%c0%ae%c0%ae/b", id="overlong dots"),
    pytest.param("/a%c0%afb", id="an overlong slash"),
    pytest.param("/a%ff", id="escapes that are not UTF-8"),
    pytest.param("/a\x00b", id="a raw NUL (G06)"),
    pytest.param("/a\nb", id="a raw line end"),
    pytest.param("/a\n", id="a raw line end at the end"),
    pytest.param("/a\tb", id="a raw tab"),
    pytest.param("/a b", id="a raw space"),
    pytest.param("/a\x7f", id="a raw delete"),
    pytest.param("/caf\xe9", id="a raw byte that is not ASCII (G06)"),
    pytest.param("/a\udce9", id="a raw byte as a surrogate"),
    pytest.param("/a#frag", id="a fragment (G06)"),
    pytest.param("/a?x=1#frag", id="a fragment after the query"),
    pytest.param("/a?x=1 HTTP/1.1", id="a space in the query"),
    pytest.param("/a?x=\r\n", id="a line end in the query"),
    pytest.param("/a?x=\xe9", id="a raw byte in the query that is not ASCII"),
]

PATHS = [
    pytest.param("/repos/openai/", "/repos/openai/x", True, id="below the prefix"),
    pytest.param("/repos/openai/", "/repos/openai/", True, id="the prefix itself"),
    pytest.param("/repos/openai/", "/repos/openai", False, id="the prefix without its slash"),
    pytest.param("/repos/openai/", "/repos/openai-evil/x", False, id="a longer name beside the prefix (G01)"),
    pytest.param("/repos/openai/", "/repos/openaix", False, id="a longer name without a slash (G01)"),
    pytest.param("/repos/openai", "/repos/openai-evil/x", True, id="a prefix without a slash is a prefix (G01)"),
    pytest.param("/repos/openai/", "/Repos/openai/x", False, id="case matters"),
    pytest.param("/repos/openai/", "/repos/%6fpenai/x", False, id="escapes are not undone"),
    pytest.param("/repos/openai/", "/x/repos/openai/", False, id="a prefix is not a part"),
    pytest.param("repos/", "/repos/", False, id="a prefix without a slash in front matches nothing"),
    pytest.param("/a/*", "/a/b", False, id="stars in a plain prefix are stars"),
    pytest.param("/a/*", "/a/*/b", True, id="a path with the star of a plain prefix"),
    pytest.param("literal:/a/*", "/a/*/b", True, id="a literal is a plain prefix"),
    pytest.param("literal:pattern:", "/pattern:", False, id="a literal may begin with the other word"),
    pytest.param("pattern:/repos/*/issues", "/repos/x/issues", True, id="a star is one segment"),
    pytest.param("pattern:/repos/*/issues", "/repos/x/y/issues", False, id="a star does not cross a slash"),
    pytest.param("pattern:/repos/*/issues", "/repos/x/issues/1", False, id="a pattern is the whole path"),
    pytest.param("pattern:/repos/*/issues", "/x/repos/x/issues", False, id="a pattern begins at the beginning"),
    pytest.param("pattern:/repos/*/issues", "/repos//issues", False, id="a merged slash would make it another path"),
    pytest.param("pattern:/repos/**", "/repos//x", False, id="two stars and an empty segment"),
    pytest.param("pattern:/a/*", "/a/", True, id="a star may be empty at the end"),
    pytest.param("pattern:/a/v*.txt", "/a/v1.txt", True, id="a star within a segment"),
    pytest.param("pattern:/a/v*.txt", "/a/v1xtxt", False, id="a dot is a dot"),
    pytest.param("pattern:/a/*b*c", "/a/bbxc", True, id="two stars in one segment"),
    pytest.param("pattern:/repos/**/issues", "/repos/x/y/issues", True, id="two stars cross slashes"),
    pytest.param("pattern:/repos/**/issues", "/repos/issues", False, id="two stars leave both slashes in place"),
    pytest.param("pattern:/repos/**", "/repos/x/y", True, id="two stars at the end"),
    pytest.param("pattern:**/git-upload-pack", "/x/y.git/git-upload-pack", True, id="two stars in front (G18)"),
    pytest.param("pattern:**/git-upload-pack", "/x/y.git/git-receive-pack", False, id="a push is another path (G18)"),
    pytest.param("pattern:/a***b", "/a/x/b", True, id="three stars are two"),
    pytest.param("pattern:/a/b", "/a/b", True, id="a pattern without a star is the path"),
    pytest.param("pattern:/a/b", "/a/b/c", False, id="a pattern without a star is not a prefix"),
    pytest.param("pattern:/a(b)+.^$|", "/a(b)+.^$|", True, id="nothing but stars is special"),
]

BAD = [
    pytest.param("", "path_prefixes must not contain empty entries", id="nothing"),
    pytest.param("literal:", "path_prefixes must not contain empty entries", id="an empty literal would be every path"),
    pytest.param("pattern:", "invalid glob pattern", id="an empty pattern"),
    *(
        pytest.param(f"pattern:/a{char}", "invalid glob pattern", id=f"the special character {char}")
        for char in "?[]{}\\"
    ),
]


@pytest.mark.parametrize(("target", "parts"), CLEAR)
def test_a_clear_target_is_parted_and_never_decoded(target: str, parts: tuple[str, str]) -> None:
    assert split_target(target) == parts


@pytest.mark.parametrize("target", AMBIGUOUS)
def test_an_ambiguous_target_has_no_parts(target: str) -> None:
    assert split_target(target) is None


@pytest.mark.parametrize(("entry", "path", "matches"), PATHS)
def test_paths_match_as_written(entry: str, path: str, matches: bool) -> None:
    assert compile_paths([entry]).match(path) is matches


@pytest.mark.parametrize(("entry", "message"), BAD)
def test_a_bad_entry_is_refused(entry: str, message: str) -> None:
    with pytest.raises(InvalidPattern, match=message):
        compile_paths(["/fine", entry])


def test_any_entry_is_enough() -> None:
    paths = compile_paths(["/a/", "pattern:/b/*", "literal:/c/"])

    assert [path for path in ("/a/1", "/b/1", "/c/1", "/d/1") if paths.match(path)] == ["/a/1", "/b/1", "/c/1"]


def test_no_entry_matches_nothing() -> None:
    assert not compile_paths([]).match("/")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        pytest.param("/" + "*a" * 40 + "!", "/" + "a" * 8_000, id="forty stars in one segment"),
        pytest.param("/" + "**a" * 40 + "!", "/" + "a" * 8_000, id="forty stars across segments"),
        pytest.param("/" + "**/*a" * 40 + "!", "/" + "a/" * 4_000, id="stars of both kinds in turn"),
    ],
)
def test_a_nasty_pattern_takes_no_longer_than_a_plain_one(pattern: str, path: str) -> None:
    paths = compile_paths([f"pattern:{pattern}"])
    started = perf_counter()

    assert not paths.match(path)
    # With backtracking this is a matter of years.
    assert perf_counter() - started < 5
