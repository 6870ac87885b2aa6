"""Which methods a mode lets through (spec B5)."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.decision import HttpUse
from codex_network_proxy.policy.modes import NetworkMode, method_allowed, reads_only

LIMITED = [
    pytest.param("GET", True, id="limited mode lets GET pass"),
    pytest.param("HEAD", True, id="limited mode lets HEAD pass"),
    pytest.param("OPTIONS", True, id="limited mode lets OPTIONS pass"),
    pytest.param("POST", False, id="limited mode stops POST"),
    pytest.param("PUT", False, id="limited mode stops PUT"),
    pytest.param("DELETE", False, id="limited mode stops DELETE"),
    pytest.param("PATCH", False, id="limited mode stops PATCH"),
    pytest.param("TRACE", False, id="limited mode stops TRACE"),
    pytest.param("CONNECT", False, id="limited mode has no CONNECT among its methods"),
    pytest.param("PROPFIND", False, id="limited mode stops methods it does not know"),
    pytest.param("get", False, id="limited mode compares the exact case"),
    pytest.param("Get", False, id="limited mode refuses mixed case"),
    pytest.param("GET ", False, id="limited mode does not trim"),
    pytest.param("GET\n", False, id="limited mode does not stop reading at a line end"),
    pytest.param("", False, id="limited mode stops an empty method"),
]


@pytest.mark.parametrize(("method", "passes"), LIMITED)
def test_limited_mode_only_reads(method: str, passes: bool) -> None:
    assert method_allowed(NetworkMode.LIMITED, method) is passes


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "CONNECT", "get", "X-ANY"])
def test_full_mode_has_no_method_rule(method: str) -> None:
    assert method_allowed(NetworkMode.FULL, method)


@pytest.mark.parametrize(
    ("use", "reads"),
    [
        pytest.param(HttpUse("GET"), True, id="a GET"),
        pytest.param(HttpUse("POST"), False, id="another method"),
        pytest.param(HttpUse("GET", has_body=True), False, id="a GET with a body"),
        pytest.param(HttpUse("GET", upgrade="websocket"), False, id="a GET that becomes something else"),
    ],
)
def test_limited_mode_judges_the_whole_request(use: HttpUse, reads: bool) -> None:
    assert reads_only(NetworkMode.LIMITED, use) is reads
    assert reads_only(NetworkMode.FULL, use)


def test_the_modes_are_spelled_as_in_the_configuration() -> None:
    assert [str(mode) for mode in NetworkMode] == ["limited", "full"]
