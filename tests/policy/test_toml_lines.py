"""The line of each key and list element; or none, rather than a wrong one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from codex_network_proxy.policy.toml_lines import Path, line_numbers

EVERYTHING = '''\
# a comment with = and [brackets]
top = 1
dotted.key . "with space" = "x"

[table]   # comment
list = [
  "one",  # ] not the end
  "two", "three",

  "four, with ] and # inside",
]
inline = { a = 1, b.c = [1, 2], "d" = { } }
date = 1979-05-27 07:32:00
text = """
several = lines
[not.a.table]
\\"""  quoted ""\"""
raw = \'\'\'
  raw = 1
\'\'\'\'\'
after = -1.5e3

[table.sub.deep]
x = true
[[hooks]]
host = "a"
[hooks.match]
methods = [ 'GET',
            'PUT' ]
[[hooks.actions.inject]]
name = "n1"
[[hooks.actions.inject]]
name = "n2"
[[hooks]]
match.methods = []
"é\\u0041" = 1
'lit"eral' = 2
'''

LINES = [
    pytest.param(("top",), 2, id="a key at the top"),
    pytest.param(("dotted",), 3, id="the table that a dotted key makes"),
    pytest.param(("dotted", "key", "with space"), 3, id="a dotted key with blanks and quotes"),
    pytest.param(("table",), 5, id="a table header"),
    pytest.param(("table", "list"), 6, id="the key of a list over several lines"),
    pytest.param(("table", "list", 0), 7, id="its first element"),
    pytest.param(("table", "list", 1), 8, id="the first element of a line"),
    pytest.param(("table", "list", 2), 8, id="the second element of a line"),
    pytest.param(("table", "list", 3), 10, id="an element after an empty line, with brackets in it"),
    pytest.param(("table", "inline", "b", "c", 1), 12, id="a list in an inline table"),
    pytest.param(("table", "inline", "d"), 12, id="an empty inline table"),
    pytest.param(("table", "date"), 13, id="a date with a blank in it"),
    pytest.param(("table", "text"), 14, id="a text over several lines"),
    pytest.param(("table", "raw"), 18, id="a key after a text that ends in five quotes"),
    pytest.param(("table", "after"), 21, id="a key after a raw text that ends in five quotes"),
    pytest.param(("table", "sub"), 23, id="a table that only a deeper header names"),
    pytest.param(("table", "sub", "deep", "x"), 24, id="a key of a deep table"),
    pytest.param(("hooks",), 25, id="an array of tables has the line of its first element"),
    pytest.param(("hooks", 0), 25, id="an element of an array of tables"),
    pytest.param(("hooks", 0, "match"), 27, id="a table of the latest element"),
    pytest.param(("hooks", 0, "match", "methods", 1), 29, id="an element on the line after its key"),
    pytest.param(("hooks", 0, "actions", "inject", 1, "name"), 33, id="an array of tables in an array of tables"),
    pytest.param(("hooks", 1), 34, id="the second element"),
    pytest.param(("hooks", 1, "match", "methods"), 35, id="a dotted key in the second element"),
    pytest.param(("hooks", 1, "éA"), 36, id="a quoted key with an escape"),
    pytest.param(("hooks", 1, 'lit"eral'), 37, id="a literal key"),
]


def paths_of(value: object, path: Path = ()) -> Iterator[Path]:
    """Every path of a parsed file."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths_of(inner, (*path, key))


@pytest.mark.parametrize(("path", "line"), LINES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_path_has_its_line(path: Path, line: int, newline: str) -> None:
    assert line_numbers(EVERYTHING.replace("\n", newline))[path] == line


def test_the_scanner_sees_the_paths_that_the_parser_sees() -> None:
    assert set(line_numbers(EVERYTHING)) == set(paths_of(tomli.loads(EVERYTHING)))


UNSURE = [
    pytest.param("key", id="a key without a value"),
    pytest.param("= 1", id="a value without a key"),
    pytest.param("[table\nkey = 1", id="a header without an end"),
    pytest.param("key = ", id="nothing after the equals sign"),
    pytest.param("list = [1", id="a list without an end"),
    pytest.param('key = "open', id="a text without an end"),
    pytest.param("list = " + "[" * 5000, id="lists in lists without end"),
]


@pytest.mark.parametrize("text", UNSURE)
def test_what_is_not_understood_has_no_lines_at_all(text: str) -> None:
    assert line_numbers("first = 1\n" + text) == {}


scalars = st.booleans() | st.integers(-9, 9) | st.text("a\"'\\#=[]{},. \té\u2028", max_size=6)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
keys = st.text("ab-_.\"' #=é", min_size=1, max_size=3)


@given(st.dictionaries(keys, st.dictionaries(keys, values, max_size=3), max_size=3))
def test_every_key_is_found_on_the_line_it_was_written_to(tables: dict[str, dict[str, object]]) -> None:
    lines: list[str] = []
    expected: dict[Path, int] = {}
    for name, table in tables.items():
        lines.append(f"[{json.dumps(name, ensure_ascii=False)}] # = [")
        expected[name,] = len(lines)
        for key, value in table.items():
            lines += ["", f"{json.dumps(key, ensure_ascii=False)}={json.dumps(value, ensure_ascii=False)}"]
            expected |= dict.fromkeys([(name, key), *paths_of(value, (name, key))], len(lines))
    text = "\n".join(lines)
    assert tomli.loads(text) == tables
    assert line_numbers(text) == expected
