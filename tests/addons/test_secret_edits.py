"""Secrets are read at the last moment, for a verified connection of the hooked host alone (spec A4.9)."""

from __future__ import annotations

import logging

import pytest
from mitmproxy import connection
from mitmproxy.proxy.layers.http import RequestHeaders

from codex_network_proxy.addons.allowlist import Allowlist
from codex_network_proxy.addons.secret_edits import SecretHead, secret_edits, with_secrets
from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.policy.header_edits import ResolvedEdits

from .engine_kit import SECRET
from .flow_kit import Bench, bench, run

ELSEWHERE = "secrets are sent over verified TLS to the hooked host only"


def matched(here: Bench) -> Allowed:
    flow = run(Allowlist().requestheaders, here.flow("https://hooked.test/ok"))
    return here.session.candidates[flow.id]


def server(here: Bench, verdict: Allowed, *, tls: bool = True, sni: str = "hooked.test") -> connection.Server:
    made = connection.Server(address=("hooked.test", 443))
    made.timestamp_tls_setup = 1.0 if tls else None
    made.sni = sni
    here.session.dialled_under(made.id, verdict)
    return made


def test_a_verified_connection_gets_them() -> None:
    with bench() as here:
        here.enter()
        verdict = matched(here)
        edits = secret_edits(here.session, verdict, server(here, verdict), insecure=False)
        assert edits
        assert edits.inject == ((b"authorization", f"Bearer {SECRET}".encode()),)
        assert SECRET not in repr(edits)


@pytest.mark.parametrize("fault", ["no TLS", "another name", "verification is off", "another target", "never dialled"])
def test_any_other_connection_does_not(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    with bench() as here:
        here.enter()
        verdict = matched(here)
        made = server(
            here, verdict, tls=fault != "no TLS", sni="evil.test" if fault == "another name" else "hooked.test"
        )
        if fault == "another target":
            here.session.tunnel = None
            other = run(Allowlist().requestheaders, here.flow("https://hooked.test:8443/ok"))
            here.session.tunnel = None
            assert other.response, "no tunnel leads there"
            here.session.dialled[made.id] = here.enter("allowed.test:443")
        elif fault == "never dialled":
            here.session.dialled.clear()
        with caplog.at_level(logging.ERROR):
            assert secret_edits(here.session, verdict, made, insecure=fault == "verification is off") is None
    assert caplog.messages == [f"request refused (request_id={verdict.request_id}): {ELSEWHERE}"]


def test_a_secret_that_is_gone_stops_the_request(caplog: pytest.LogCaptureFixture) -> None:
    with bench() as here:
        here.enter()
        verdict = matched(here)
        made = server(here, verdict)
        here.world.secrets.clear()
        assert secret_edits(here.session, verdict, made, insecure=False) is None
        here.session.tenant = None
        assert secret_edits(here.session, verdict, made, insecure=False) is None
    assert [message.rpartition(": ")[2] for message in caplog.messages] == [
        "missing required environment variable TOKEN",
        "no source of secrets",
    ]


def test_a_secret_with_a_line_break_stops_the_request(caplog: pytest.LogCaptureFixture) -> None:
    with bench() as here:
        here.enter()
        verdict = matched(here)
        here.world.secrets["TOKEN"] = "good\r\nhost: evil.test"
        assert secret_edits(here.session, verdict, server(here, verdict), insecure=False) is None
    assert "good" not in caplog.text


def test_the_flow_keeps_its_own_head() -> None:
    with bench() as here:
        flow = here.flow("https://hooked.test/ok", [("a", "1"), ("authorization", "mine")])
        flow.request.data.content = b"body"
    head = RequestHeaders(7, flow.request, True)
    edits = ResolvedEdits(frozenset({b"authorization"}), ((b"authorization", SECRET.encode()),))
    made = with_secrets(head, edits)
    assert isinstance(made, RequestHeaders)
    assert made.request.headers.fields == ((b"a", b"1"), (b"authorization", SECRET.encode()))
    assert (made.stream_id, made.end_stream, made.shown) == (7, True, flow.request)
    assert flow.request.headers["authorization"] == "mine"
    assert made.request.data.path == b"/ok"
    assert SECRET not in repr(made)
    assert type(made) is SecretHead
