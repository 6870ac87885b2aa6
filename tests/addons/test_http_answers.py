"""Answers that may pass on to a client, and those that are a failed upstream (class F10)."""

from __future__ import annotations

import pytest
from mitmproxy import http

from codex_network_proxy.addons.http_answers import answer_problem

GET = http.Request.make("GET", "http://allowed.test/")


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        pytest.param(200, None, id="a good one"),
        pytest.param(599, None, id="the last that HTTP knows"),
        pytest.param(999, None, id="one that HTTP does not know, and some origins do"),
        pytest.param(99, "the origin answered with status 099", id="too small"),
        pytest.param(100, "the origin answered with status 100", id="interim"),
        pytest.param(103, "the origin answered with status 103", id="another interim one"),
        pytest.param(101, "the origin switched protocols unasked", id="a switch"),
        pytest.param(1000, "the origin answered with status 1000", id="too large"),
    ],
)
def test_statuses(status: int, problem: str | None) -> None:
    assert answer_problem(GET, http.Response.make(status)) == problem


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (b"plain", True), (b"tab\there", True), (b"\xfc", True),
        (b"a\r\nb: c", False), (b"a\nb", False), (b"a\x00", False), (b"a\x7f", False),
    ],
)  # fmt: skip
def test_values(value: bytes, good: bool) -> None:
    answer = http.Response.make(200)
    answer.headers = http.Headers([(b"x", value)])
    assert answer_problem(GET, answer) == (None if good else "the origin sent no valid HTTP response")
