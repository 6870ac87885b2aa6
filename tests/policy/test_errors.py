"""Problem lines: the place, the value, the repair; on one line, and without secrets (spec A1.2)."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.errors import SHOWN_LENGTH, ConfigError, ConfigProblem, shown

VALUES = [
    pytest.param(True, "true", id="a boolean as TOML spells it"),
    pytest.param(3128, "3128", id="a number"),
    pytest.param("full", '"full"', id="a text in quotes"),
    pytest.param('a"b\\c', r'"a\"b\\c"', id="quotes and backslashes are escaped"),
    pytest.param("a\nb\x1b[0m\u202e", r'"a\nb\x1b[0m\u202e"', id="what a terminal acts on is escaped"),
    pytest.param("x" * 61, f'"{"x" * SHOWN_LENGTH}…"', id="a long text is cut"),
    pytest.param({"a": "secret"}, "{…}", id="a table without what is in it"),
    pytest.param(["secret"], "[…]", id="a list without what is in it"),
    pytest.param(("secret",), "[…]", id="a tuple is a list"),
    pytest.param("http://user:pass@host/x", '"http://***@host/x"', id="user-info of a URL is hidden"),
    pytest.param("http://user:pa/ss@host", '"http://***@host"', id="user-info with a slash is hidden"),
    pytest.param("user:p@ss@host:80", '"***@host:80"', id="user-info without a scheme is hidden"),
    pytest.param("//user@host", '"//***@host"', id="user-info after two slashes is hidden"),
    pytest.param("/@scope/package", '"/@scope/package"', id="a path with an at sign is shown"),
]

LINES = [
    pytest.param(
        ConfigProblem("a.b[0]", "is wrong; write c", "x", 12, "config.toml"),
        'config.toml:12 a.b[0]: "x" is wrong; write c',
        id="file, line, place, value, message",
    ),
    pytest.param(
        ConfigProblem("a.b", "is wrong; write c", file="config.toml"),
        "config.toml a.b: is wrong; write c",
        id="without line and value",
    ),
    pytest.param(ConfigProblem("--profile", "is wrong"), "--profile: is wrong", id="without a file"),
    pytest.param(
        ConfigProblem("a", "has\na break", file="con\nfig"), r"con\nfig a: has\na break", id="always one line"
    ),
]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_a_value_is_shown_as_the_file_spells_it(value: object, expected: str) -> None:
    assert shown(value) == expected


@pytest.mark.parametrize(("problem", "expected"), LINES)
def test_a_problem_is_one_line(problem: ConfigProblem, expected: str) -> None:
    assert str(problem) == expected


def test_an_error_has_every_problem_on_a_line_of_its_own() -> None:
    error = ConfigError((ConfigProblem("a", "is wrong"), ConfigProblem("b", "is wrong too")))
    assert str(error) == "a: is wrong\nb: is wrong too"
