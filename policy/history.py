"""Past requests as an audit log tells of them, read back line by line (spec B10)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address

from .audit import EVENT_NAME, NO_METHOD
from .decision import Decision, DecisionSource, IPAddress, NetworkProtocol, PolicyScope
from .errors import InvalidHost
from .hosts import Endpoint, parse_host


@dataclass(frozen=True, slots=True)
class PastRequest:
    """One request and what became of it. `time` is the event's own text, `peer` the address it was pinned to.

    `rule` is the pattern that decided on the host. `override`: no list allowed it, a decider did.
    """

    time: str
    protocol: NetworkProtocol
    target: Endpoint
    method: str | None
    decision: Decision
    reason: str
    source: DecisionSource
    rule: str | None = None
    override: bool = False
    peer: IPAddress | None = None

    @property
    def allowed(self) -> bool:
        return self.decision is Decision.ALLOW

    @property
    def is_inner(self) -> bool:
        """Whether it came through an intercepted tunnel."""
        tunnels = NetworkProtocol.HTTPS_CONNECT, NetworkProtocol.SOCKS5_TCP
        return self.protocol in tunnels and self.method not in (None, "CONNECT")


@dataclass(frozen=True, slots=True)
class History:
    """The requests in the order of the log. `unread` lines were no events, as after a crash or a full disk."""

    requests: tuple[PastRequest, ...]
    unread: int = 0


def read_history(lines: Iterable[str]) -> History:
    """Reads an audit log. The events of one request become one; requests to unix sockets are left out.

    A line that is no event is counted, never an error: logs get torn.
    """
    requests: dict[str, PastRequest] = {}
    unread = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            request_id, event = _read(line)
        except (ValueError, TypeError, KeyError, RecursionError):
            unread += 1
            continue
        if event is not None:
            before = requests.get(request_id)
            requests[request_id] = event if before is None else _joined(before, event)
    return History(tuple(requests.values()), unread)


def _read(line: str) -> tuple[str, PastRequest | None]:
    fields = json.loads(line)
    if fields["event.name"] != EVENT_NAME:
        raise ValueError("another kind of event")
    request_id = _text(fields["request.id"])
    if fields["server.port"] == 0:
        return request_id, None
    domain = fields["network.policy.scope"] == PolicyScope.DOMAIN
    rule, peer = fields.get("network.policy.rule"), fields.get("network.peer.address")
    method = _text(fields["http.request.method"])
    return request_id, PastRequest(
        time=_text(fields["event.timestamp"]),
        protocol=NetworkProtocol(fields["network.transport.protocol"]),
        target=_target(fields["server.address"], fields["server.port"]),
        method=None if method == NO_METHOD else method,
        decision=Decision(fields["network.policy.decision"]),
        reason=_text(fields["network.policy.reason"]),
        source=DecisionSource(fields["network.policy.source"]),
        rule=_text(rule) if domain and rule is not None else None,
        override=fields["network.policy.override"] is True,
        peer=None if peer is None else ip_address(_text(peer)),
    )


def _joined(before: PastRequest, event: PastRequest) -> PastRequest:
    """The outcome is the last word; what was said of the host stays."""
    return replace(
        event,
        rule=before.rule or event.rule,
        override=before.override or event.override,
        peer=event.peer or before.peer,
    )


def _target(host: object, port: object) -> Endpoint:
    if type(port) is not int or not 0 < port < 65536:
        raise ValueError("not a port")
    try:
        return Endpoint(parse_host(_text(host)), port)
    except InvalidHost as error:
        raise ValueError("not a host") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
