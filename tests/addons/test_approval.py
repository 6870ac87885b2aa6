"""An approval is the end of the whole chain, for exactly one request."""

from __future__ import annotations

import pytest
from mitmproxy import flow as mitmproxy_flow
from mitmproxy import http

from codex_network_proxy.addons.allowlist import Allowlist
from codex_network_proxy.addons.approval import Approval

from .flow_kit import ADDRESS, Bench, bench, run


def candidate(here: Bench) -> http.HTTPFlow:
    flow = run(Allowlist().requestheaders, here.flow("http://allowed.test:81/"))
    assert flow.id in here.session.candidates
    return flow


def test_a_candidate_that_nobody_refused_is_approved() -> None:
    with bench() as here:
        flow = candidate(here)
        verdict = here.session.candidates[flow.id]
        Approval().requestheaders(flow)
        assert here.session.approved(flow) is verdict
        assert here.session.grants[("allowed.test", 81)].addresses == (ADDRESS,)
        assert not here.session.candidates


@pytest.mark.parametrize("refused", ["response", "error"])
def test_a_candidate_that_somebody_refused_is_not(refused: str) -> None:
    with bench() as here:
        flow = candidate(here)
        setattr(flow, refused, {"response": http.Response.make(403), "error": mitmproxy_flow.Error("no")}[refused])
        Approval().requestheaders(flow)
        assert here.session.approved(flow) is None
        assert not here.session.grants
        assert not here.session.candidates, "nor does it stay one"


def test_without_a_candidate_or_a_session_nothing_happens() -> None:
    with bench() as here:
        flow = here.flow()
        Approval().requestheaders(flow)
        assert here.session.approved(flow) is None
    Approval().requestheaders(flow)


def test_a_replay_is_never_approved() -> None:
    with bench() as here:
        flow = candidate(here)
        flow.is_replay = "request"
        Approval().requestheaders(flow)
        assert not here.session.approvals
