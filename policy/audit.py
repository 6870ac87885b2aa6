"""Audit events: who asked for which host, what was answered and why. Never a path, query, header or body (spec B10)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import NamedTuple

from .decision import NetworkPolicyRequest, NetworkProtocol, Ruling
from .text import printable

EVENT_NAME = "codex.network_proxy.policy_decision"
EVENT_TARGET = "codex_otel.network_proxy"
NO_METHOD = "none"
UNKNOWN_CLIENT = "unknown"

METADATA_NAMES = (
    "conversation.id",
    "app.version",
    "user.account_id",
    "auth_mode",
    "originator",
    "user.email",
    "terminal.type",
    "model",
    "slug",
)
"""What an embedding application may add to every event (spec B10.1)."""

Metadata = tuple[tuple[str, str], ...]

_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last one that keeps the form


def audit_metadata(values: Mapping[str, str | None]) -> Metadata:
    """The metadata for every event; unset values are left out.

    Raises `ValueError` for a name it may not set, and for a value that is no text.
    """
    for name, value in values.items():
        if name not in METADATA_NAMES:
            raise ValueError(f"audit metadata {name!r}: use one of {', '.join(METADATA_NAMES)}")
        if not isinstance(value, str | None):
            raise ValueError(f"audit metadata {name!r} is of type {type(value).__name__}; write a string")
    return tuple((name, value) for name in METADATA_NAMES if (value := values.get(name)))


class PolicyDecisionEvent(NamedTuple):
    """One ruling on one request. `timestamp` is in seconds since the epoch, UTC."""

    timestamp: float
    request_id: str
    ruling: Ruling
    protocol: NetworkProtocol
    host: str
    port: int
    method: str | None
    client_address: str | None
    peer_address: str | None = None
    metadata: Metadata = ()
    execution_id: str | None = None

    @classmethod
    def of(
        cls,
        ruling: Ruling,
        request: NetworkPolicyRequest,
        request_id: str,
        timestamp: float,
        peer_address: str | None = None,
        metadata: Metadata = (),
    ) -> PolicyDecisionEvent:
        """The event of one ruling. `peer_address` is the pinned address, when there is one."""
        return cls(
            timestamp,
            request_id,
            ruling,
            request.protocol,
            request.host,
            request.port,
            request.method,
            request.client_address,
            peer_address,
            metadata,
            request.scope.execution_id,
        )

    def fields(self) -> dict[str, str | int | bool]:
        """The event under the names of spec B10, in the order of the log."""
        ruling = self.ruling
        fields: dict[str, str | int | bool] = {
            "event.name": EVENT_NAME,
            "event.timestamp": timestamp_text(self.timestamp),
            "request.id": self.request_id,
            "network.policy.scope": ruling.scope.value,
            "network.policy.decision": ruling.decision.value,
            "network.policy.source": ruling.source.value,
            "network.policy.reason": printable(ruling.reason),
            "network.policy.override": ruling.override,
        }
        if ruling.rule is not None:
            fields["network.policy.rule"] = printable(ruling.rule)
        fields |= {
            "network.transport.protocol": self.protocol.value,
            "server.address": printable(self.host),
            "server.port": self.port,
            "http.request.method": printable(self.method or NO_METHOD),
            "client.address": printable(self.client_address or UNKNOWN_CLIENT),
        }
        if self.peer_address is not None:
            fields["network.peer.address"] = self.peer_address
        if self.execution_id:
            fields["execution.id"] = printable(self.execution_id)
        return fields | {name: printable(value) for name, value in self.metadata}

    def json_line(self) -> str:
        """`fields()` as one line of compact ASCII JSON, without the line end. Written by hand for speed."""
        return (
            f'{{"event.name":"{EVENT_NAME}","event.timestamp":"{timestamp_text(self.timestamp)}",'
            f'"request.id":{quoted(self.request_id)},'
            f"{_question_json(self.ruling, self.protocol, self.host, self.port)},"
            f'"http.request.method":{quoted(printable(self.method or NO_METHOD))},'
            f'"client.address":{quoted(printable(self.client_address or UNKNOWN_CLIENT))}'
            f"{_rest_json(self.peer_address, self.execution_id, self.metadata)}}}"
        )


def timestamp_text(timestamp: float) -> str:
    """RFC 3339 in UTC with milliseconds, exactly 24 characters. A clock out of range reads as the epoch."""
    return _millisecond_text(milliseconds(timestamp))


def milliseconds(timestamp: float) -> int:
    """Since the epoch, as `timestamp_text` tells them."""
    return round(timestamp * 1000) if 0 <= timestamp <= _LAST_SECOND else 0


# Under load many events share a millisecond, and what is asked and answered repeats itself.


@lru_cache(maxsize=8)
def _millisecond_text(since_epoch: int) -> str:
    second, millisecond = divmod(since_epoch, 1000)
    return f"{_second_text(second)}.{millisecond:03d}Z"


@lru_cache(maxsize=8)
def _second_text(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


@lru_cache(maxsize=1024)
def _question_json(ruling: Ruling, protocol: str, host: str, port: int) -> str:
    named_rule = "" if ruling.rule is None else f'"network.policy.rule":{quoted(printable(ruling.rule))},'
    return (
        f'"network.policy.scope":"{ruling.scope}","network.policy.decision":"{ruling.decision}",'
        f'"network.policy.source":"{ruling.source}","network.policy.reason":{quoted(printable(ruling.reason))},'
        f'"network.policy.override":{"true" if ruling.override else "false"},{named_rule}'
        f'"network.transport.protocol":"{protocol}",'
        f'"server.address":{quoted(printable(host))},"server.port":{port}'
    )


@lru_cache(maxsize=1024)
def _rest_json(peer_address: str | None, execution_id: str | None, metadata: Metadata) -> str:
    peer = "" if peer_address is None else f',"network.peer.address":{quoted(peer_address)}'
    execution = f',"execution.id":{quoted(printable(execution_id))}' if execution_id else ""
    return f"{peer}{execution}" + "".join(f",{quoted(name)}:{quoted(printable(value))}" for name, value in metadata)
