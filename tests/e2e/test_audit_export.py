"""Audit events in a collector, as the running proxy sends them; and collectors that do not do their work."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

from tests.kit.answers import request_id
from tests.kit.collector import Collector
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import connect, exchange, get
from tests.kit.recipes import OTEL, recipe

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def test_every_decision_reaches_the_collector_as_it_is_in_the_file(
    tmp_path: Path, fast_path: bool, origin: HttpOrigin
) -> None:
    with Collector() as collector:
        line = recipe(OTEL, places={"http://127.0.0.1:4318": collector.endpoint})
        variable, _, endpoint = line.removeprefix("export ").partition("=")
        environment = {variable: endpoint, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=canary"}
        with ProxyProcess(tmp_path, OPEN, fast_path=fast_path, environment=environment, arguments=["-v"]) as proxy:
            exchange(proxy.http, get(f"http://allowed.test:{origin.port}/canary"))
            answer = exchange(proxy.http, connect(f"evil.test:{origin.port}"), "CONNECT")
            written = proxy.audit_events(2)
            assert [dict(record.attributes) for record in collector.records(2)] == written
            assert written[1]["request.id"] == request_id(answer)
            assert proxy.stop() == 0
    assert {record.scope for record in collector.records(2)} == {"codex_otel.network_proxy"}
    assert {record.event_name for record in collector.records(2)} == {"codex.network_proxy.policy_decision"}
    assert all(fields["x-key"] == "canary" for _, fields in collector.heads)
    assert "canary" not in proxy.output


def test_the_export_does_not_go_through_the_proxy_itself(tmp_path: Path, origin: HttpOrigin) -> None:
    """A shell that was set up for the proxy may well be the one that starts it."""
    with Collector() as collector, socket.create_server(("127.0.0.1", 0)) as nobody:
        shell = dict.fromkeys(("HTTP_PROXY", "http_proxy"), f"http://127.0.0.1:{nobody.getsockname()[1]}")
        direct = replace(OPEN, lines=("allow_upstream_proxy = false",))
        with ProxyProcess(tmp_path, direct, environment={ENDPOINT: collector.endpoint, **shell}) as proxy:
            exchange(proxy.http, get("http://denied.test/"))
            assert len(collector.records(1)) == 1


def test_m06_a_dead_collector_delays_neither_decisions_nor_the_end(
    tmp_path: Path, fast_path: bool, origin: HttpOrigin
) -> None:
    dead = Collector()
    try:
        with ProxyProcess(tmp_path, OPEN, fast_path=fast_path, environment={ENDPOINT: dead.endpoint}) as proxy:
            for _ in range(20):
                assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).status == 200
                assert exchange(proxy.http, get(f"http://denied.test:{origin.port}/t")).status == 403
            assert len(proxy.audit_events(40)) == 40
            assert proxy.stop() == 0
    finally:
        dead.close()
    assert f"audit export to {dead.endpoint} closed; 40 events were lost in all" in proxy.output
    assert "Traceback" not in proxy.output
    assert "opentelemetry" not in proxy.output


def test_m06_a_slow_collector_delays_neither_decisions_nor_the_end(tmp_path: Path, origin: HttpOrigin) -> None:
    with Collector() as slow:
        slow.gate.clear()
        with ProxyProcess(tmp_path, OPEN, environment={ENDPOINT: slow.endpoint}) as proxy:
            exchange(proxy.http, get(f"http://denied.test:{origin.port}/t"))
            slow.asked(1)
            for _ in range(20):
                assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).status == 200
            assert len(proxy.audit_events(21)) == 21
            assert proxy.stop() == 0
    assert "closed; 21 events were lost in all" in proxy.output
    assert "Traceback" not in proxy.output
