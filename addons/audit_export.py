"""Audit events to an OpenTelemetry collector, or to the embedding application's own pipeline (spec A8)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from codex_network_proxy.policy.audit import PolicyDecisionEvent

from .sink_thread import Pace, SinkThread, Words

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

logger = logging.getLogger("codex_network_proxy")

LOGS_ENDPOINT = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN = "http/protobuf"
PACE = Pace(queue=10_000, batch=512, delay=1.0, retry=5.0)


class ExportUnavailable(ValueError):
    """The environment asks for an export that is not possible; the text says what to do."""


class Exporter(Protocol):
    """What speaks to the collector. Made, used and closed by one thread; `give_up` may come from another."""

    def send(self, events: Sequence[PolicyDecisionEvent]) -> int:
        """Sends all of them and answers how many. Raises `Lost`, or another error when a later try may help."""
        ...

    def give_up(self) -> None:
        """Ends a `send` that waits for its next try; there will be no other."""
        ...

    def close(self) -> None: ...


class AuditExport:
    """Takes events without waiting; one thread of its own sends them, about once a second."""

    def __init__(self, subject: str, make: Callable[[], Exporter], pace: Pace = PACE) -> None:
        self._sink = _Export(make)
        self._thread = SinkThread(self._sink, Words(subject, "fails", "works again"), pace)
        self.emit = self._thread.put
        self.close_soon = self._thread.close_soon

    @property
    def dropped(self) -> int:
        """Events that were lost so far."""
        return self._thread.dropped

    @property
    def working(self) -> bool:
        """Whether the next event would be taken, and the last ones were delivered as far as is known."""
        return self._thread.working

    def wait_closed(self, seconds: float) -> None:
        """After `close_soon`: waits for the rest to be sent, then gives up what has not been."""
        if not self._thread.wait_closed(seconds):
            self._sink.give_up()


class _Export:
    """An exporter as a sink. It is made by the thread that uses it: to import it takes longer than a start may."""

    def __init__(self, make: Callable[[], Exporter]) -> None:
        self._make = make
        self._exporter: Exporter | None = None

    def open(self) -> None:
        if self._exporter is None:
            self._exporter = self._make()

    def write(self, items: Sequence[PolicyDecisionEvent]) -> int:
        self.open()
        assert self._exporter
        return self._exporter.send(items)

    def give_up(self) -> None:
        if self._exporter is not None:
            self._exporter.give_up()

    def close(self) -> None:
        if self._exporter is not None:
            self._exporter.close()


def export_from_environment(environ: Mapping[str, str], pace: Pace = PACE) -> AuditExport | None:
    """The export that the variables of OpenTelemetry ask for; `None` when they do not.

    Raises `ExportUnavailable` when they ask for one that cannot be had.
    """
    variable = _asked_by(environ)
    if variable is None:
        return None
    shown = _origin(variable, environ[variable])
    url = environ[variable] if variable == LOGS_ENDPOINT else f"{environ[variable].removesuffix('/')}/v1/logs"
    if not _is_installed():
        hint = "pip install 'codex-network-proxy[otel]'"
        raise ExportUnavailable(f"{variable} is set, but OpenTelemetry is not installed; {hint}, or unset it")
    _warn_of_protocol(environ)

    def make() -> Exporter:
        from .otlp_export import CollectorExporter

        return CollectorExporter(url)

    return AuditExport(f"audit export to {shown}", make, pace)


def export_to(provider: LoggerProvider, pace: Pace = PACE) -> AuditExport:
    """The export to an OpenTelemetry pipeline that belongs to somebody else, who shuts it down."""

    def make() -> Exporter:
        from .otlp_export import ProviderExporter

        return ProviderExporter(provider)

    return AuditExport("audit export to the application's LoggerProvider", make, pace)


def _asked_by(environ: Mapping[str, str]) -> str | None:
    """The variable that names a collector."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    return next((name for name in (LOGS_ENDPOINT, ENDPOINT) if environ.get(name)), None)


def _origin(variable: str, url: str) -> str:
    """Scheme, host and port: the rest of the address may hold a password or a key."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        pass
    raise ExportUnavailable(f"{variable} is not an address; write http://HOST:PORT or https://HOST:PORT")


def _is_installed() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http._log_exporter") is not None
    except ImportError:
        return False


def _warn_of_protocol(environ: Mapping[str, str]) -> None:
    asked = next((value for name in PROTOCOLS if (value := environ.get(name))), SPOKEN)
    if asked != SPOKEN:
        logger.warning("audit export speaks %s, whatever OTEL_EXPORTER_OTLP_PROTOCOL says", SPOKEN)
