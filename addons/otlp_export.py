"""Audit events as OpenTelemetry log records. Needs the extra `[otel]`; imported only when an export was asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import requests
from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from codex_network_proxy import __version__
from codex_network_proxy.policy.audit import EVENT_NAME, EVENT_TARGET, PolicyDecisionEvent, milliseconds

from .otlp_http import StatusOnly
from .sink_thread import Lost

SERVICE = "codex-network-proxy"

TRY_AGAIN = (429, 502, 503, 504)
"""Answers after which a batch is kept and sent again (OTLP specification, section Retryable Response Codes)."""

_CHATTY = (
    "opentelemetry.attributes",
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.common._internal",
    "opentelemetry.exporter.otlp.proto.http._common",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.sdk.resources",
    "opentelemetry.util.re",
    "urllib3.connectionpool",
)


class ExportFailed(Exception):
    """The events were not delivered. The text holds nothing that the collector or the environment said."""


def log_record(event: PolicyDecisionEvent) -> LogRecord:
    """The event as a log record: its fields are the attributes, `event.timestamp` is also its time."""
    return LogRecord(
        timestamp=milliseconds(event.timestamp) * 1_000_000,
        context=Context(),
        severity_number=SeverityNumber.INFO,
        severity_text="INFO",
        attributes=event.fields(),
        event_name=EVENT_NAME,
    )


def _log_records(events: Sequence[PolicyDecisionEvent]) -> list[LogRecord]:
    try:
        return [log_record(event) for event in events]
    except Exception as error:
        raise Lost(type(error).__name__) from error


class ProviderExporter:
    """Gives events to a pipeline that the embedding application has set up."""

    def __init__(self, provider: LoggerProvider) -> None:
        self._logger = provider.get_logger(EVENT_TARGET, __version__)

    def send(self, events: Sequence[PolicyDecisionEvent]) -> int:
        for record in _log_records(events):
            try:
                self._logger.emit(record)
            except (Exception, SystemExit, KeyboardInterrupt) as error:
                # Those before it are delivered already, and must not be again.
                raise Lost(type(error).__name__) from error
        return len(events)

    def give_up(self) -> None:
        """The pipeline belongs to somebody else."""

    close = give_up


class CollectorExporter:
    """Sends events to a collector with OTLP over HTTP. Headers, time limit and certificates come from the `OTEL_`
    variables of the process; proxies and passwords that the environment names for others are not used.
    """

    def __init__(self, url: str) -> None:
        self._quiet = _Quiet()
        self._status: int | None = None
        session = requests.Session()
        # The proxy in the environment may be this very one, and `~/.netrc` is for others.
        session.trust_env = False
        session.max_redirects = 0
        for scheme in ("http://", "https://"):
            session.mount(scheme, StatusOnly())
        session.hooks["response"].append(self._answered)
        self._exporter = OTLPLogExporter(endpoint=url, session=session)
        self._resource = _resource()
        self._scope = InstrumentationScope(EVENT_TARGET, __version__)
        self._is_shut_down = False

    def send(self, events: Sequence[PolicyDecisionEvent]) -> int:
        records = [ReadableLogRecord(record, self._resource, self._scope) for record in _log_records(events)]
        self._status = None
        try:
            result = self._exporter.export(records)
        except requests.RequestException:  # some releases of OpenTelemetry let them through
            result = LogRecordExportResult.FAILURE
        except Exception as error:
            # The text of the error may hold the address, and that a key.
            raise ExportFailed(type(error).__name__) from None
        if result is LogRecordExportResult.SUCCESS and self._status is not None and self._status < 300:
            return len(events)
        if self._status is None:
            raise ExportFailed("it cannot be reached")
        failure = f"it answers {self._status}"
        raise ExportFailed(failure) if self._status in TRY_AGAIN else Lost(failure)

    def give_up(self) -> None:
        self._is_shut_down = True
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # its own

    def close(self) -> None:
        if not self._is_shut_down:
            self.give_up()
        self._quiet.end()

    def _answered(self, response: requests.Response, *_: object, **__: object) -> None:
        self._status = response.status_code


def _resource() -> Resource:
    """What the environment says of this process; a name of our own when it says none."""
    found = Resource.create()
    if str(found.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        return found.merge(Resource({SERVICE_NAME: SERVICE}))
    return found


class _Quiet(logging.Filter):
    """Keeps what OpenTelemetry says in the exporting thread out of the log: it repeats itself, and quotes headers.

    What it says in other threads belongs to the embedding application.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()
        for name in _CHATTY:
            logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread

    def end(self) -> None:
        for name in _CHATTY:
            logging.getLogger(name).removeFilter(self)
