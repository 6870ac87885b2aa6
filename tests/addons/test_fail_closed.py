"""A rule that raises is a deny, with nothing of its error in the log (spec A4.8)."""

from __future__ import annotations

import logging

import pytest
from mitmproxy import http

from codex_network_proxy.addons.fail_closed import fail_closed

from .flow_kit import answered, bench, run


class Rule:
    """Two hooks that break, and two that do not."""

    name = "codex-rule"

    @fail_closed
    def broken(self, flow: http.HTTPFlow) -> None:
        raise ValueError("the client's secret")

    @fail_closed
    async def broken_async(self, flow: http.HTTPFlow) -> None:
        raise ValueError("the client's secret")

    @fail_closed
    def fine(self, flow: http.HTTPFlow) -> None:
        flow.comment = "seen"

    @fail_closed
    async def fine_async(self, flow: http.HTTPFlow) -> None:
        flow.comment = "seen"


@pytest.mark.parametrize("hook", ["broken", "broken_async"])
def test_an_error_denies_the_request(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    with bench() as here, caplog.at_level(logging.DEBUG):
        flow = run(getattr(Rule(), hook), here.flow())
        assert answered(flow)[0] == 403
        assert flow.response
        assert flow.response.headers["x-proxy-error"] == "blocked-by-policy"
        assert here.world.told() == [("deny", "policy_denied")]
    assert "codex-rule failed (ValueError); the request is denied" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("hook", ["fine", "fine_async"])
def test_what_does_not_raise_passes(hook: str) -> None:
    with bench() as here:
        flow = run(getattr(Rule(), hook), here.flow())
        assert (flow.comment, flow.response) == ("seen", None)
