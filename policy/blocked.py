"""The last blocked requests, as embedding applications and the approval flow read them (spec B11)."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass

from .decision import Blocked, DecisionSource, HttpUse, NetworkPolicyRequest, NetworkProtocol
from .responses import is_disabled
from .text import printable

BUFFER_SIZE = 200
TOTAL_LIMIT = 2**64 - 1

_LABELS = {
    NetworkProtocol.HTTP: "http",
    NetworkProtocol.HTTPS_CONNECT: "http-connect",
    NetworkProtocol.SOCKS5_TCP: "socks5",
    NetworkProtocol.SOCKS5_UDP: "socks5-udp",
}


@dataclass(frozen=True, slots=True)
class BlockedRequest:
    """One block. `timestamp` is in whole seconds since the epoch; `protocol` has labels of its own (spec B11.1)."""

    host: str
    reason: str
    client: str | None
    method: str | None
    mode: str | None
    protocol: str
    timestamp: int
    decision: str | None = None
    source: str | None = None
    port: int | None = None

    @classmethod
    def of(cls, verdict: Blocked, mode: str, timestamp: float) -> BlockedRequest:
        """The entry of a block; `mode` is the one in force and is kept where the mode played a part."""
        ruling, request = verdict.ruling, verdict.request
        disabled = is_disabled(verdict)
        inner = not disabled and _is_inner(request)
        return cls(
            host=request.host if request.socket_path is None else printable(request.socket_path),
            reason=ruling.reason,
            client=request.client_address,
            method=request.method,
            mode=str(mode) if inner or ruling.source is DecisionSource.MODE_GUARD else None,
            protocol=request.protocol.value if disabled else "https" if inner else _LABELS[request.protocol],
            timestamp=int(timestamp),
            decision=None if inner else ruling.decision.value,
            source=None if inner else ruling.source.value,
            port=request.port,
        )

    def fields(self) -> dict[str, str | int | None]:
        """The entry in the reference's key order: `client`, `method` and `mode` may be null, others are left out."""
        fields: dict[str, str | int | None] = {
            "host": self.host,
            "reason": printable(self.reason),
            "client": self.client,
            "method": None if self.method is None else printable(self.method),
            "mode": self.mode,
            "protocol": self.protocol,
        }
        optional = {"decision": self.decision, "source": self.source, "port": self.port}
        fields |= {key: value for key, value in optional.items() if value is not None}
        return fields | {"timestamp": self.timestamp}

    def json_line(self) -> str:
        """`fields()` as one line of compact JSON."""
        return json.dumps(self.fields(), separators=(",", ":"))


def is_reported(verdict: Blocked) -> bool:
    """Whether the block counts: refused unix sockets do not, while the proxy is on (spec B11.2)."""
    return verdict.request.socket_path is None or is_disabled(verdict)


def _is_inner(request: NetworkPolicyRequest) -> bool:
    """A request inside an intercepted tunnel: an HTTP use of a CONNECT or SOCKS5 door."""
    return request.protocol is not NetworkProtocol.HTTP and isinstance(request.use, HttpUse)


class BlockedBuffer:
    """The last 200 blocks, oldest out first, and how many there were in all. It survives reloads (spec B11.2)."""

    def __init__(self, size: int = BUFFER_SIZE) -> None:
        self._entries: deque[BlockedRequest] = deque(maxlen=size)
        self._total = 0

    @property
    def total(self) -> int:
        """All blocks so far, also those that have left the buffer."""
        return self._total

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: BlockedRequest) -> None:
        self._entries.append(entry)
        self._total = min(self._total + 1, TOTAL_LIMIT)

    def snapshot(self) -> tuple[BlockedRequest, ...]:
        """The entries, oldest first; they stay."""
        return tuple(self._entries)

    def drain(self) -> tuple[BlockedRequest, ...]:
        """The entries, oldest first; the buffer is empty afterwards."""
        entries = self.snapshot()
        self._entries.clear()
        return entries
