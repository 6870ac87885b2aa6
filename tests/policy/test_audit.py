from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_network_proxy.policy.audit import (
    METADATA_NAMES,
    PolicyDecisionEvent,
    audit_metadata,
    timestamp_text,
)
from codex_network_proxy.policy.decision import (
    ClientScope,
    Decision,
    DecisionSource,
    HttpUse,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
)
from codex_network_proxy.policy.hosts import Endpoint, Host, parse_endpoint

NOW = 1_764_000_000.25
ALLOW = Ruling(Decision.ALLOW, "allow", DecisionSource.BASELINE_POLICY, PolicyScope.DOMAIN, "*.allowed.test")
REQUEST = NetworkPolicyRequest(
    NetworkProtocol.HTTPS_CONNECT,
    parse_endpoint("api.allowed.test:443"),
    HttpUse("POST", path="/private?token=hunter2", headers=(("authorization", "Bearer hunter2"),)),
    method="POST",
    client_address="127.0.0.1:50001",
)
BARE = NetworkPolicyRequest(NetworkProtocol.SOCKS5_TCP, parse_endpoint("blocked.test:22"))


def event(ruling: Ruling = ALLOW, request: NetworkPolicyRequest = REQUEST, **more: Any) -> PolicyDecisionEvent:
    return PolicyDecisionEvent.of(ruling, request, "4f1d9a02-1f", NOW)._replace(**more)


def test_every_field_has_its_documented_name() -> None:
    known = event(peer_address="192.0.2.7", metadata=(("model", "m-1"),), execution_id="run-7")
    assert known.fields() == {
        "event.name": "codex.network_proxy.policy_decision",
        "event.timestamp": "2025-11-24T16:00:00.250Z",
        "request.id": "4f1d9a02-1f",
        "network.policy.scope": "domain",
        "network.policy.decision": "allow",
        "network.policy.source": "baseline_policy",
        "network.policy.reason": "allow",
        "network.policy.override": False,
        "network.policy.rule": "*.allowed.test",
        "network.transport.protocol": "https_connect",
        "server.address": "api.allowed.test",
        "server.port": 443,
        "http.request.method": "POST",
        "client.address": "127.0.0.1:50001",
        "network.peer.address": "192.0.2.7",
        "execution.id": "run-7",
        "model": "m-1",
    }


def test_what_is_not_known_has_its_documented_default_or_is_left_out() -> None:
    fields = event(replace(ALLOW, rule=None), BARE).fields()
    assert (fields["http.request.method"], fields["client.address"]) == ("none", "unknown")
    assert not {"network.policy.rule", "network.peer.address", "execution.id"} & fields.keys()


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        pytest.param(ClientScope(command="curl", execution_id="run-7"), "run-7", id="names its execution"),
        pytest.param(ClientScope(command="curl", environment_id="e-1"), None, id="without an execution names none"),
        pytest.param(ClientScope(execution_id=""), None, id="with an empty name names none"),
        pytest.param(ClientScope(execution_id="a\x1b[2J"), r"a\x1b[2J", id="cannot reach a terminal with the name"),
    ],
)
def test_a_scoped_client(scope: ClientScope, told: str | None) -> None:
    line = event(request=replace(REQUEST, scope=scope)).json_line()
    assert json.loads(line).get("execution.id") == told
    assert "curl" not in line


def test_an_override_is_a_boolean() -> None:
    by_decider = Ruling(Decision.ALLOW, "not_allowed", DecisionSource.DECIDER, PolicyScope.DOMAIN, override=True)
    assert event(by_decider).fields()["network.policy.override"] is True
    assert '"network.policy.override":true' in event(by_decider).json_line()


def test_no_path_query_header_or_body_gets_into_an_event() -> None:
    line = event().json_line()
    assert "private" not in line
    assert "hunter2" not in line
    assert "hunter2" not in repr(event())


@pytest.mark.parametrize(
    ("field", "told"),
    [
        pytest.param({"method": "GET\x1b[2J\r\n"}, r"GET\x1b[2J\r\n", id="a method from the wire"),
        pytest.param({"ruling": replace(ALLOW, reason="no\u202e\x7f")}, r"no\u202e\x7f", id="a decider's reason"),
        pytest.param({"ruling": replace(ALLOW, rule="a\tb")}, r"a\tb", id="an operator's rule"),
        pytest.param({"client_address": "\x00"}, r"\x00", id="a client's address"),
        pytest.param({"metadata": (("model", "\x9b1m"),)}, r"\x9b1m", id="an application's metadata"),
        pytest.param({"execution_id": "\x1b"}, r"\x1b", id="an application's name for an execution"),
        pytest.param({"host": "a\nb"}, r"a\nb", id="even a host, which is canonical already"),
    ],
)
def test_control_characters_stay_powerless_after_a_json_reader(field: dict[str, Any], told: str) -> None:
    line = event(**field).json_line()
    assert line.isascii()
    assert line.isprintable()
    assert told in json.loads(line).values()


texts = st.text(max_size=300) | st.text(st.characters(categories=["Cc", "Cs", "Cf", "Po"]), max_size=8)
rulings = st.builds(
    Ruling,
    st.sampled_from(Decision),
    texts,
    st.sampled_from(DecisionSource),
    st.sampled_from(PolicyScope),
    st.none() | texts,
    st.booleans(),
)
scopes = st.builds(ClientScope, execution_id=st.none() | texts)
requests = st.builds(
    NetworkPolicyRequest,
    st.sampled_from(NetworkProtocol),
    st.builds(Endpoint, st.builds(Host, texts), st.integers(0, 65535)),
    method=st.none() | texts,
    client_address=st.none() | texts,
    scope=scopes,
)
metadata = st.dictionaries(st.sampled_from(METADATA_NAMES), texts).map(audit_metadata)
clocks = st.floats(-1e20, 1e20) | st.floats(0, 4e9)


@given(rulings, requests, texts, clocks, st.none() | texts, metadata)
def test_the_hand_written_line_is_what_json_would_write(
    ruling: Ruling,
    request: NetworkPolicyRequest,
    request_id: str,
    now: float,
    peer: str | None,
    extra: tuple[tuple[str, str], ...],
) -> None:
    event = PolicyDecisionEvent.of(ruling, request, request_id, now, peer, extra)
    assert event.json_line() == json.dumps(event.fields(), separators=(",", ":"))
    assert len(str(event.fields()["event.timestamp"])) == 24


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param(0, "1970-01-01T00:00:00.000Z", id="the epoch"),
        pytest.param(1_764_000_000.0, "2025-11-24T16:00:00.000Z", id="a whole second keeps its zeros"),
        pytest.param(1_764_000_000.0074, "2025-11-24T16:00:00.007Z", id="milliseconds are padded"),
        pytest.param(1_764_000_000.9996, "2025-11-24T16:00:01.000Z", id="rounding up carries into the second"),
        pytest.param(253_402_300_799.0, "9999-12-31T23:59:59.000Z", id="the last second of the form"),
        pytest.param(253_402_300_800.0, "1970-01-01T00:00:00.000Z", id="a clock past the form reads as the epoch"),
        pytest.param(-1.0, "1970-01-01T00:00:00.000Z", id="a clock before the epoch reads as the epoch"),
        pytest.param(float("nan"), "1970-01-01T00:00:00.000Z", id="no number reads as the epoch"),
    ],
)
def test_timestamps_have_24_characters(seconds: float, text: str) -> None:
    assert timestamp_text(seconds) == text
    assert len(text) == 24


def test_metadata_keeps_the_documented_names_in_their_order_and_drops_unset_values() -> None:
    values = {"model": "m-1", "conversation.id": "c-1", "slug": None, "user.email": ""}
    assert audit_metadata(values) == (("conversation.id", "c-1"), ("model", "m-1"))


@pytest.mark.parametrize("value", [2, 1.5, ["m-1"], b"m-1"])
def test_metadata_is_text(value: object) -> None:
    with pytest.raises(ValueError, match=f"audit metadata 'model' is of type {type(value).__name__}; write a string"):
        audit_metadata({"model": value})  # type: ignore[dict-item]  # what a program may get wrong


def test_metadata_cannot_overwrite_a_field_of_the_event() -> None:
    with pytest.raises(ValueError, match=r"audit metadata 'network\.policy\.decision': use one of conversation\.id, "):
        audit_metadata({"network.policy.decision": "allow"})
