"""An OpenTelemetry collector for tests: takes OTLP over HTTP on loopback and keeps the log records."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

PATIENCE = 20.0  # seconds that a test waits before it fails


@dataclass(frozen=True, slots=True)
class Received:
    """One log record as it came over the wire."""

    scope: str
    severity: tuple[int, str]
    event_name: str
    time_unix_nano: int
    attributes: Mapping[str, object]
    resource: Mapping[str, object]


class Collector:
    """Use it as a context manager: before, its port is held, and refuses.

    `status` is what it answers, with the fields of `head` and `body`; while `gate` is clear it does not answer at all.
    """

    def __init__(self) -> None:
        self.status = 200
        self.head: Mapping[str, str] = {}
        self.body = b""
        self.gate = threading.Event()
        self.gate.set()
        self.heads: list[tuple[str, Mapping[str, str]]] = []
        self._records: list[Received] = []
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self), bind_and_activate=False)
        self._server.server_bind()
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def endpoint(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        self._server.server_activate()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join(PATIENCE)
        self.close()

    def close(self) -> None:
        """For one that was never entered."""
        self._server.server_close()

    def take(self, path: str, fields: Mapping[str, str], body: bytes) -> int:
        with self._changed:
            self.heads.append((path, fields))
            self._changed.notify_all()
        assert self.gate.wait(PATIENCE)
        with self._changed:
            if self.status == 200:
                self._records += _read(body)
                self._changed.notify_all()
            return self.status

    def asked(self, times: int) -> None:
        """Returns once it was sent so many requests."""
        self._until(lambda: len(self.heads) >= times, f"{times} requests")

    def records(self, count: int) -> list[Received]:
        """Waits until it took `count` records, and returns all."""
        self._until(lambda: len(self._records) >= count, f"{count} records")
        return list(self._records)

    def _until(self, true: Any, what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(true, PATIENCE), f"not {what}: {len(self.heads)} requests, {self._records}"


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = collector.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            for name, value in {"content-length": str(len(collector.body)), **collector.head}.items():
                self.send_header(name, value)
            if status == 302:
                self.send_header("location", f"{collector.endpoint}/elsewhere")
            self.end_headers()
            self.wfile.write(collector.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _read(body: bytes) -> list[Received]:
    request = ExportLogsServiceRequest.FromString(body)
    return [
        Received(
            scoped.scope.name,
            (record.severity_number, record.severity_text),
            record.event_name,
            record.time_unix_nano,
            _values(record.attributes),
            _values(resource.resource.attributes),
        )
        for resource in request.resource_logs
        for scoped in resource.scope_logs
        for record in scoped.log_records
    ]


def _values(pairs: Any) -> dict[str, object]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> object:
    value: AnyValue = pair.value
    kind = value.WhichOneof("value")
    assert kind in ("string_value", "bool_value", "int_value"), pair
    return getattr(value, kind)
