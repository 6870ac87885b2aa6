"""One running proxy: what its start needs, and what is decided and written down while it runs."""

from __future__ import annotations

import json

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from codex_network_proxy.addons.audit_export import ExportUnavailable
from codex_network_proxy.addons.auditing import Watchers
from codex_network_proxy.addons.runtime import RunOptions, Runtime
from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.decision import Allowed, Blocked, NetworkDecision, NetworkPolicyRequest, Unavailable
from codex_network_proxy.policy.errors import ConfigError

from .runtime_kit import HOOK, Place, ask


def test_the_configured_policy_decides_and_is_audited_below_codex_home(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open()
    assert isinstance(ask(runtime, "a.test"), Allowed)
    assert isinstance(ask(runtime, "b.test"), Blocked)
    runtime.close()
    lines = (place.home / "log" / "network-proxy.jsonl").read_text().splitlines()
    assert ["allow" in line and "a.test" in line for line in lines] == [True, False]


@pytest.mark.parametrize(
    ("required", "answer", "told"),
    [
        pytest.param(True, Unavailable, "every request is refused", id="and it is required, nothing is decided"),
        pytest.param(False, Allowed, "decisions go on", id="and it is not, decisions go on"),
    ],
)
def test_when_the_audit_log_cannot_be_written(
    required: bool, answer: type[object], told: str, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write('"a.test"')
    folder = place.home / "audit.jsonl"
    folder.mkdir()
    options = RunOptions(audit_log=folder, pins=("a.test=127.0.0.1",), fail_closed_audit=required)
    runtime = place.open(options)
    assert isinstance(ask(runtime, "a.test"), answer)
    runtime.close()
    assert f"{folder} cannot be written: Is a directory; {told}, 0 events lost so far" in caplog.text


def test_a_required_audit_log_is_open_when_the_first_request_comes(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open(RunOptions(pins=("a.test=127.0.0.1",), fail_closed_audit=True))
    assert isinstance(ask(runtime, "a.test"), Allowed)


def test_an_application_is_told_of_every_decision_and_adds_what_it_knows(place: Place) -> None:
    place.write('"a.test"')
    events: list[PolicyDecisionEvent] = []
    blocks: list[BlockedRequest] = []

    async def blocked(entry: BlockedRequest) -> None:
        blocks.append(entry)

    watchers = Watchers(events.append, blocked, {"conversation.id": "c-1", "model": None})
    runtime = place.open(watchers=watchers)
    assert isinstance(ask(runtime, "b.test"), Blocked)
    runtime.close()
    assert [event.fields()["conversation.id"] for event in events] == ["c-1"]
    assert [entry.host for entry in blocks] == [entry.host for entry in runtime.authority.blocked.snapshot()]
    (line,) = (place.home / "log" / "network-proxy.jsonl").read_text().splitlines()
    assert json.loads(line) == events[0].fields()


def test_an_application_may_not_set_just_anything(place: Place) -> None:
    place.write('"a.test"')
    with pytest.raises(ValueError, match=r"audit metadata 'request\.id': use one of conversation\.id"):
        place.open(watchers=Watchers(metadata={"request.id": "mine"}))


def test_an_applications_pipeline_takes_the_place_of_the_environments_collector(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_network_proxy.addons.audit_sinks.CLOSE_LIMIT", 20.0)  # it is imported only now
    place.write('"a.test"')
    memory = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # its own
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(memory))
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "no address at all"}
    runtime = place.open(environ=environ, watchers=Watchers(logger_provider=provider))
    ask(runtime, "a.test")
    runtime.close()
    (record,) = memory.get_finished_logs()
    assert (record.log_record.attributes or {})["server.address"] == "a.test"


@pytest.mark.parametrize("required", [False, True])
def test_an_export_that_cannot_be_had_is_fatal_only_where_the_audit_is_required(
    required: bool, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write('"a.test"')
    options = RunOptions(pins=("a.test=127.0.0.1",), fail_closed_audit=required)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}
    if required:
        with pytest.raises(ExportUnavailable, match="OTEL_EXPORTER_OTLP_ENDPOINT is not an address"):
            place.open(options, environ)
        return
    assert isinstance(ask(place.open(options, environ), "a.test"), Allowed)
    assert "audit export is off: OTEL_EXPORTER_OTLP_ENDPOINT is not an address; write http://HOST:PORT" in caplog.text


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_a_decider_without_time_to_answer_stops_the_start(timeout: float, place: Place) -> None:
    async def decide(request: NetworkPolicyRequest) -> NetworkDecision:
        return NetworkDecision.allow()

    place.write('"a.test"')
    with pytest.raises(ValueError, match="write a number of seconds greater than 0"):
        Runtime(RunOptions(), place.environ({}), decide, timeout)


def test_interception_makes_the_authority_and_reads_no_secret_into_the_policy(place: Place) -> None:
    place.write('"api.test"', HOOK)
    runtime = place.open(environ={"TOKEN": "canary"})
    assert runtime.tls.interception is not None
    assert runtime.tls.interception.ca == place.home / "proxy" / "ca.pem"
    assert "canary" not in repr(runtime.authority.policy)


def test_without_interception_no_authority_is_made(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open()
    assert runtime.tls.interception is None
    assert not (place.home / "proxy" / "ca.key").exists()


def test_a_missing_secret_stops_the_start(place: Place) -> None:
    place.write('"api.test"', HOOK)
    with pytest.raises(ConfigError, match="missing required environment variable TOKEN"):
        place.open()


def test_a_key_that_others_can_read_stops_the_start(place: Place) -> None:
    place.write('"api.test"', HOOK)
    place.open(environ={"TOKEN": "canary"})
    (place.home / "proxy" / "ca.key").chmod(0o644)
    with pytest.raises(ConfigError, match="must not be group/world accessible"):
        place.open(environ={"TOKEN": "canary"})


def test_interception_can_be_switched_on_by_a_reload(place: Place) -> None:
    place.write('"api.test"')
    runtime = place.open(environ={"TOKEN": "canary"})
    place.write('"api.test"', HOOK)
    runtime.reload_if_changed()
    assert runtime.tls.interception is not None


def test_a_malformed_pin_stops_the_start(place: Place) -> None:
    place.write('"a.test"')
    with pytest.raises(ValueError, match=r"a\.test"):
        place.open(RunOptions(pins=("a.test",)))
