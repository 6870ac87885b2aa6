"""Events over OpenTelemetry: what a collector receives, and that a missing, dead or slow one delays nobody."""

from __future__ import annotations

import gzip
import logging
import socket
import sys
from collections.abc import Iterator

import pytest

from codex_network_proxy.addons.audit_export import ExportUnavailable, export_from_environment
from codex_network_proxy.addons.audit_sinks import close_all
from codex_network_proxy.addons.sink_thread import Pace
from codex_network_proxy.policy.audit import PolicyDecisionEvent
from tests.kit.collector import Collector

from .sink_kit import AT_ONCE, LIMIT, Listening, event, exporting, short_patience


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter reads the variables of the process."""
    for name in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)


def test_a_collector_receives_the_event_under_its_documented_names(collector: Collector) -> None:
    with exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}) as export:
        export.emit(event(7))
        (record,) = collector.records(1)
    assert record.attributes == event(7).fields()
    assert record.attributes["event.name"] == record.event_name == "codex.network_proxy.policy_decision"
    assert (record.scope, record.severity) == ("codex_otel.network_proxy", (9, "INFO"))
    assert record.attributes["event.timestamp"] == "2025-11-24T16:00:00.000Z"
    assert record.time_unix_nano == 1_764_000_000_000_000_000
    assert record.attributes["network.policy.override"] is False
    assert record.attributes["server.port"] == 80
    assert record.resource["service.name"] == "codex-network-proxy"


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, "/v1/logs", id="a base address"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "/base/"}, "/base/v1/logs", id="a base address with a path"),
        pytest.param({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "/mine"}, "/mine", id="an address for logs, as it is"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "/mine", "OTEL_EXPORTER_OTLP_ENDPOINT": "/other"},
            "/mine",
            id="the address for logs before the other",
        ),
    ],
)
def test_where_events_go(variables: dict[str, str], path: str, collector: Collector) -> None:
    with exporting({name: collector.endpoint + value for name, value in variables.items()}) as export:
        export.emit(event(1))
        collector.records(1)
    assert [head[0] for head in collector.heads] == [path]


def test_headers_and_the_service_name_come_from_the_environment(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canary")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-agent")
    with exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}) as export:
        export.emit(event(1))
        (record,) = collector.records(1)
    assert collector.heads[0][1]["authorization"] == "Bearer canary"
    assert record.resource["service.name"] == "my-agent"


def test_neither_the_proxy_of_the_environment_nor_a_stored_password_is_used(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w", encoding="utf-8") as file:
        file.write("machine 127.0.0.1 login somebody password canary\n")
    monkeypatch.setenv("NETRC", netrc)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}) as export:
            export.emit(event(1))
            collector.records(1)
    assert "authorization" not in collector.heads[0][1]


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({}, id="nothing is set"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, id="the variable is empty"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "True"},
            id="OpenTelemetry is switched off",
        ),
    ],
)
def test_nothing_is_exported_when(variables: dict[str, str]) -> None:
    assert export_from_environment(variables) is None


@pytest.mark.parametrize(
    "value", ["localhost:4318", "grpc://collector:4317", "http://", "http://[::1", "http://h:99999", "/v1/logs"]
)
def test_an_endpoint_that_is_none_is_said_without_quoting_it(value: str) -> None:
    with pytest.raises(ExportUnavailable, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT is not an address; write http://HOST"):
        export_from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": value})


@pytest.mark.parametrize(
    "missing", ["opentelemetry.exporter.otlp.proto.http", "opentelemetry.exporter", "opentelemetry"]
)
def test_without_the_extra_the_sentence_names_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hidden:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == missing or name.startswith(f"{missing}."):
                raise ModuleNotFoundError(name)

    for name in [name for name in sys.modules if name == missing or name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
    with pytest.raises(ExportUnavailable) as caught:
        export_from_environment({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://127.0.0.1:4318"})
    assert str(caught.value) == (
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT is set, but OpenTelemetry is not installed; "
        "pip install 'codex-network-proxy[otel]', or unset it"
    )


def test_another_protocol_is_not_spoken_and_that_is_said(collector: Collector, log: Listening) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with exporting(variables) as export:
        export.emit(event(1))
        collector.records(1)
    assert log.lines == ["audit export speaks http/protobuf, whatever OTEL_EXPORTER_OTLP_PROTOCOL says"]


# -- collectors that do not do their work ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 404, 500, 302])
def test_what_a_collector_refuses_is_lost_counted_and_not_sent_again(
    status: int, collector: Collector, log: Listening
) -> None:
    collector.status = status
    with exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}) as export:
        export.emit(event(1))
        log.wait_for(f"audit export to {collector.endpoint} fails: it answers {status}; decisions go on, ")
        collector.status = 200
        export.emit(event(2))
        log.wait_for(f"audit export to {collector.endpoint} works again; 1 events were lost")
        assert [record.attributes["request.id"] for record in collector.records(1)] == ["id-2"]
        assert export.dropped == 1
    assert len(collector.heads) == 2


@pytest.mark.parametrize(
    ("status", "head", "body"),
    [
        pytest.param(200, {}, b"\n\x00", id="short"),
        pytest.param(200, {"content-length": "1000000000000"}, b"", id="endless"),
        pytest.param(200, {"content-encoding": "gzip"}, gzip.compress(bytes(1 << 20)), id="a bomb"),
        pytest.param(200, {"content-encoding": "gzip"}, b"none", id="what it does not say it is"),
        pytest.param(302, {"content-length": "1000000000000"}, b"", id="an endless redirect"),
    ],
)
def test_the_text_of_an_answer_does_not_matter(
    status: int, head: dict[str, str], body: bytes, collector: Collector, log: Listening
) -> None:
    collector.status, collector.head, collector.body = status, head, body
    with exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}) as export:
        for number in (1, 2):
            export.emit(event(number))
            collector.asked(number)
    assert [path for path, _ in collector.heads] == ["/v1/logs"] * 2
    assert export.dropped == (0 if status == 200 else 2)


def test_what_waits_for_a_collector_that_is_away_arrives_when_it_is_there(log: Listening) -> None:
    collector = Collector()
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    with short_patience(), exporting(variables, Pace(queue=3, batch=2, delay=0.0, retry=0.0)) as export:
        export.emit(event(0))
        log.wait_for(
            f"audit export to {collector.endpoint} fails: it cannot be reached; decisions go on, 0 events lost"
        )
        assert not export.working
        for number in range(1, 10):
            export.emit(event(number))
        lost = export.dropped
        assert lost >= 5, "two are in the batch at most, and three in the queue"
        with collector:
            assert len(collector.records(10 - lost)) == 10 - lost
            log.wait_for(f"works again; {lost} events were lost")
            assert export.working


def test_a_slow_collector_delays_nobody_and_the_queue_stays_bounded(collector: Collector, log: Listening) -> None:
    collector.gate.clear()
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    with exporting(variables, Pace(queue=5, batch=2, delay=0.0, retry=0.0)) as export:
        export.emit(event(0))
        collector.asked(1)  # the thread waits for its answer now
        for number in range(1, 11):
            export.emit(event(number))
        assert export.dropped == 5
        collector.gate.set()
        collector.records(6)
    assert log.wait_for("falls behind").endswith("falls behind; 5 events lost so far")


def test_a_collector_that_hangs_does_not_hold_the_end(collector: Collector, log: Listening) -> None:
    collector.gate.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("codex_network_proxy.addons.audit_sinks.CLOSE_LIMIT", 0.01)
        export = export_from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}, AT_ONCE)
        assert export
        export.emit(event(0))
        collector.asked(1)
        close_all([export])
    assert log.lines == [f"audit export to {collector.endpoint} closed; 1 events were lost in all"]
    collector.gate.set()
    export._thread.wait_closed(LIMIT)


def test_what_waits_is_sent_at_the_end(collector: Collector) -> None:
    with exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}, Pace(delay=3600.0)) as export:
        for number in range(20):
            export.emit(event(number))
    assert len(collector.records(20)) == 20
    assert len(collector.heads) == 1


# -- what may be told --------------------------------------------------------------------------------------------------


def test_no_secret_of_the_environment_gets_into_the_log(
    collector: Collector, log: Listening, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=canary-1,no header at all canary-2")
    address = collector.endpoint.replace("http://", "http://user:canary-3@") + "/canary-4/v1/logs?key=canary-5"
    collector.status = 503
    variables = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": address}
    with caplog.at_level(logging.DEBUG), short_patience(), exporting(variables) as export:
        export.emit(event(0))
        log.wait_for("fails: it answers 503")
    assert "canary" not in caplog.text
    assert "canary" not in "".join(log.lines)
    assert collector.heads[0][1]["x-key"] == "canary-1"


def test_what_opentelemetry_says_elsewhere_in_the_application_is_left_alone(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    noisy = logging.getLogger("opentelemetry.exporter.otlp.proto.http._log_exporter")
    with exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}) as export:
        export.emit(event(0))
        collector.records(1)
        noisy.error("somebody else's exporter failed")
        assert len(noisy.filters) == 2
    assert len(noisy.filters) == 1, "and the filter is gone afterwards"
    assert "somebody else's exporter failed" in caplog.text


def test_an_event_that_is_none_harms_nobody(collector: Collector, log: Listening) -> None:
    class Broken:
        timestamp = 0.0

        def fields(self) -> object:
            raise ValueError("a secret")

    broken: PolicyDecisionEvent = Broken()  # type: ignore[assignment]  # what can only be a defect
    with exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}) as export:
        export.emit(broken)
        log.wait_for("fails: ValueError")
        export.emit(event(1))
        collector.records(1)
    assert "secret" not in "".join(log.lines)
