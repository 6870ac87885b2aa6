"""Where audit events go: the file, a collector, and functions of the embedding application (spec A8)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.blocked import BlockedRequest

from .audit_export import AuditExport, ExportUnavailable, export_from_environment, export_to
from .audit_log import AuditLog
from .audit_sinks import AuditSinks, EventSink, RunningSink
from .authority import Authority
from .observers import told

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

logger = logging.getLogger("codex_network_proxy")

START_LIMIT = 1.0
"""Seconds that a start waits for the audit log when nothing may happen without it."""


@dataclass(frozen=True, slots=True)
class Watchers:
    """What an embedding application wants to be told, and what it adds to every event.

    The observers are plain or async functions, see `observers`. `metadata` holds names of `METADATA_NAMES`. With a
    `logger_provider` events go there, and not to the collector that the environment names.
    """

    audit_observer: Callable[[PolicyDecisionEvent], object] | None = None
    blocked_observer: Callable[[BlockedRequest], object] | None = None
    metadata: Mapping[str, str | None] = field(default_factory=dict)
    logger_provider: LoggerProvider | None = None


NOBODY = Watchers()


def open_audit(path: Path, environ: Mapping[str, str], watchers: Watchers, *, required: bool) -> AuditSinks:
    """Every sink, working. `required`: nothing may happen while the file cannot be written.

    Raises `ExportUnavailable` when the environment asks for an export that cannot be had, and the audit is required.
    """
    export = _export(environ, watchers, required=required)
    log = AuditLog(path, required=required)
    sinks: list[EventSink] = [log, *([export] if export else [])]
    if watchers.audit_observer is not None:
        sinks.append(told("the audit observer", watchers.audit_observer))
    if not required:
        return AuditSinks(sinks)
    # The first request must not be refused only because the thread that opens the file has not begun.
    log.wait_tried(START_LIMIT)
    return AuditSinks(sinks, required=[log])


def watch_blocks(authority: Authority, watchers: Watchers) -> list[RunningSink[BlockedRequest]]:
    """Tells the application of each block after it was buffered. What has to be closed in the end."""
    if watchers.blocked_observer is None:
        return []
    observer = told("the observer of blocked requests", watchers.blocked_observer)
    authority.on_block(lambda _, entry: observer.emit(entry))
    return [observer]


def _export(environ: Mapping[str, str], watchers: Watchers, *, required: bool) -> AuditExport | None:
    if watchers.logger_provider is not None:
        return export_to(watchers.logger_provider)
    try:
        return export_from_environment(environ)
    except ExportUnavailable as error:
        if required:
            raise
        logger.warning("audit export is off: %s", error)
        return None
