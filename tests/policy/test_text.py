from __future__ import annotations

import pytest

from codex_network_proxy.policy.text import numbered, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("api.example.com", "api.example.com", id="an ordinary name stays"),
        pytest.param("", "", id="nothing stays nothing"),
        pytest.param("nicht erlaubt: größer", "nicht erlaubt: größer", id="letters of other languages stay"),
        pytest.param("\x1b[2J\x07", r"\x1b[2J\x07", id="a terminal escape loses its power"),
        pytest.param("a\r\nb\tc\0", r"a\r\nb\tc\x00", id="line ends, tabs and NUL are spelled out"),
        pytest.param("a\x7fb\x9bc", r"a\x7fb\x9bc", id="DEL and the C1 controls are spelled out"),
        pytest.param(
            "a\u202eb\u200b", r"a\u202eb\u200b", id="direction marks and invisible characters are spelled out"
        ),
        pytest.param("\ud800", r"\ud800", id="half a surrogate pair is spelled out"),
        pytest.param("\U000e0041", r"\U000e0041", id="a tag character is spelled out"),
    ],
)
def test_text_that_is_safe_to_show(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("abcd", "abcd", id="as long as the limit stays"),
        pytest.param("abcde", "abcd…", id="longer than the limit is cut"),
        pytest.param("\x01bcd", r"\x01bcd", id="the limit counts what was sent, not what is shown"),
        pytest.param("\x01bcde", r"\x01bcd…", id="cut and spelled out"),
    ],
)
def test_text_is_cut_after_the_limit(text: str, shown: str) -> None:
    assert printable(text, limit=4) == shown


def test_the_default_limit_is_256_characters() -> None:
    assert printable("x" * 256) == "x" * 256
    assert printable("x" * 65536) == "x" * 256 + "…"


@pytest.mark.parametrize(("count", "text"), [(0, "0 lines"), (1, "1 line"), (2, "2 lines")])
def test_a_number_of_things(count: int, text: str) -> None:
    assert numbered(count, "line") == text
