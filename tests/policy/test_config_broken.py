"""A file that is no TOML, or whose reading fails in a way that nobody foresaw: still a problem with a place."""

from __future__ import annotations

import pytest
import tomli
from pydantic import BaseModel, ValidationError

from codex_network_proxy.policy.config_tables import NetworkTable

from .config_texts import HEAD, NETWORK, problems

BROKEN = [
    pytest.param("a = 1\nb = [1,, 2]", "config.toml:2 column 8: is not TOML: ", id="a syntax error"),
    pytest.param("a = 1\na = 2\n", "config.toml:2 ", id="a key twice"),
    pytest.param("[a]\n[a]\n", "config.toml:2 column 3: is not TOML: ", id="a table twice"),
    pytest.param("a = [\n", "config.toml:2 ", id="the end in a list"),
    pytest.param("a = " + "[" * 5000, "config.toml TOML: is not TOML: ", id="lists without end"),
    pytest.param("a = " + "9" * 5000, "config.toml TOML: is not TOML: ", id="a number without end"),
    pytest.param('a = "\x00"', "config.toml:1 column 6: is not TOML: Illegal character", id="a control character"),
]


@pytest.mark.parametrize(("text", "words"), BROKEN)
def test_broken_toml_is_refused_with_line_and_column(text: str, words: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(words)
    assert problem.isprintable()
    assert "; correct the line" in problem or "; write it shorter" in problem


PARSER_TEXTS = [
    pytest.param(
        "Expected '=' (at line 3, column 4)",
        "config.toml:3 column 4: is not TOML: Expected '='; ",
        id="a place in the text",
    ),
    pytest.param(
        "Expected '=' (at end of document)",
        "config.toml:2 end of file: is not TOML: Expected '='; ",
        id="the end of the file",
    ),
]


@pytest.mark.parametrize(("text", "words"), PARSER_TEXTS)
def test_the_place_is_read_from_the_parsers_text(text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise ValueError(text)

    monkeypatch.setattr(tomli, "loads", refuse)
    assert problems("a = 1\nb")[0].startswith(words)


def test_a_refusal_that_nobody_foresaw_is_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange(BaseModel):
        enabled: int

    def refuse(values: dict[str, object]) -> None:
        Strange.model_validate(values)

    monkeypatch.setattr(NetworkTable, "model_validate", refuse)
    with pytest.raises(ValidationError):
        NetworkTable.model_validate({"enabled": "x"})
    assert problems(HEAD + "enabled = 'x'") == [
        f'config.toml:3 {NETWORK}.enabled: "x" is not valid; look the key up in the README'
    ]
