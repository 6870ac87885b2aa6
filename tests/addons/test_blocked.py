"""Our own answers on a flow: complete at once, marked in mitmweb, and with an id that ties them to the log."""

from __future__ import annotations

import logging

import pytest
from mitmproxy import http

from codex_network_proxy.addons.allowlist import Allowlist
from codex_network_proxy.addons.approval import Approval
from codex_network_proxy.addons.blocked import answer, refuse_bad, refuse_undecided
from codex_network_proxy.addons.flow_requests import BadRequest
from codex_network_proxy.policy.responses import error_response

from .flow_kit import answered, bench, run

TEXT = "Codex blocked this request by network policy."


def test_an_answer_does_not_wait_for_the_body() -> None:
    with bench() as here:
        flow = here.flow(method="POST", body=True)
        answer(flow, error_response(400, "no"))
        assert flow.request.stream is True
        assert answered(flow) == (400, "no")


@pytest.mark.parametrize(("method", "body"), [("GET", b"no"), ("HEAD", b""), ("head", b"no")])
def test_a_head_gets_no_body(method: str, body: bytes) -> None:
    with bench() as here:
        flow = here.flow(method=method)
        answer(flow, error_response(400, "no"))
        assert flow.response
        assert (flow.response.raw_content, flow.response.headers["content-length"]) == (body, "2")


def test_a_bad_request_is_no_block() -> None:
    with bench() as here:
        flow = here.flow()
        refuse_bad(flow, BadRequest(400, "host mismatch"))
        assert answered(flow) == (400, "host mismatch")
        assert (flow.comment, flow.marked) == ("refused: host mismatch", "")


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_what_nobody_decided_is_denied_and_on_record(method: str) -> None:
    with bench() as here:
        flow = here.flow("https://allowed.test/" if method == "CONNECT" else "http://allowed.test/", method=method)
        refuse_undecided(flow)
        assert flow.response
        assert (flow.response.status_code, flow.response.headers["x-proxy-error"]) == (403, "blocked-by-policy")
        assert flow.response.reason == "Blocked by network policy (blocked-by-policy)"
        assert TEXT in answered(flow)[1]
        assert here.world.told() == [("deny", "policy_denied")]
        number = here.world.events[0].fields()["request.id"]
        assert flow.response.headers["x-proxy-request-id"] == number
        assert (flow.marked, str(number) in flow.comment) == (":no_entry:", True)


def test_a_request_that_was_changed_is_on_record_as_it_was_judged() -> None:
    with bench() as here:
        flow = run(Allowlist().requestheaders, here.flow())
        Approval().requestheaders(flow)
        here.world.events.clear()
        flow.request.data.host = "evil.test"
        refuse_undecided(flow)
        assert here.world.events[0].fields()["server.address"] == "allowed.test"
        assert "changed after it had been allowed" in flow.comment


@pytest.mark.parametrize("missing", ["session", "authority", "target", "replay"])
def test_without_anybody_to_record_it_the_deny_stands(missing: str) -> None:
    with bench() as here:
        flow = here.flow()
        if missing == "authority":
            here.session.tenant = None
        elif missing == "target":
            flow.request.data.host = "a b"
        elif missing == "replay":
            flow.is_replay = "request"
        if missing != "session":
            refuse_undecided(flow)
    if missing == "session":
        refuse_undecided(flow)
    assert isinstance(flow.response, http.Response)
    assert (flow.response.status_code, flow.response.headers["x-proxy-error"]) == (403, "blocked-by-policy")
    assert answered(flow)[1] == TEXT
    assert flow.marked == ":no_entry:"


def test_an_audit_log_that_raises_does_not_open_anything(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: object) -> None:
        raise RuntimeError("a secret")

    with bench() as here, caplog.at_level(logging.DEBUG):
        here.world.emit = broken  # type: ignore[method-assign]  # fails on purpose
        flow = here.flow()
        refuse_undecided(flow)
        assert answered(flow) == (403, TEXT)
    assert "a deny could not be recorded (RuntimeError)" in caplog.text
    assert "a secret" not in caplog.text
