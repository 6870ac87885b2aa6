"""What was decided for each engine connection: the side table that the addons, the HTTP layers and the guard share.

It lives beside the flows, never in them, so nothing of it reaches mitmweb, saved flows or another script.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mitmproxy import http

from codex_network_proxy.policy.decision import Allowed, IPAddress
from codex_network_proxy.policy.interfaces import SecretSource

from .authority import Authority


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The request as it was judged. A request that differs from it when it is sent is not the one that was allowed."""

    method: bytes
    scheme: bytes
    host: str
    port: int
    path: bytes
    host_header: str | None
    fields: tuple[tuple[bytes, bytes], ...] | None

    @classmethod
    def of(cls, flow: http.HTTPFlow, *, hooked: bool) -> Snapshot:
        """With `hooked`, the header fields count as well: they decided which secret goes out."""
        data = flow.request.data
        fields = data.headers.fields if hooked else None
        return cls(data.method, data.scheme, data.host, data.port, data.path, flow.request.host_header, fields)


@dataclass(frozen=True, slots=True)
class Approval:
    verdict: Allowed
    snapshot: Snapshot


@dataclass(slots=True)
class Session:
    """One client connection in the engine.

    `tunnel` is the decision on the CONNECT target. `grants` maps each target that may be dialled to the addresses
    that were checked for it; what is not in it is not dialled. `candidates` are verdicts that still wait for the
    rest of the chain; `approvals` are requests that may be sent.
    """

    authority: Authority | None
    client_address: str
    secrets: SecretSource | None = None
    tunnel: Allowed | None = None
    tunnel_decided: bool = False
    user_agent: str | None = None
    grants: dict[tuple[str, int], tuple[IPAddress, ...]] = field(default_factory=dict)
    candidates: dict[str, Allowed] = field(default_factory=dict)
    approvals: dict[str, Approval] = field(default_factory=dict)
    _bodies: set[int] = field(default_factory=set)

    def note_body(self, request: http.Request) -> None:
        """Remembers that a body follows this request's head."""
        self._bodies.add(id(request))

    def expects_body(self, flow: http.HTTPFlow) -> bool:
        return id(flow.request) in self._bodies

    def approve(self, flow: http.HTTPFlow, verdict: Allowed) -> None:
        """Records that exactly this request may be sent, to exactly the checked addresses."""
        self.grant(flow.request.data.host, flow.request.data.port, verdict)
        self.approvals[flow.id] = Approval(verdict, Snapshot.of(flow, hooked=verdict.hook is not None))

    def grant(self, host: str, port: int, verdict: Allowed) -> None:
        self.grants[(host, port)] = verdict.addresses

    def approved(self, flow: http.HTTPFlow) -> Allowed | None:
        """The verdict for this request, if it is still the request that was judged; else nothing."""
        approval = self.approvals.get(flow.id)
        if approval is None:
            return None
        now = Snapshot.of(flow, hooked=approval.verdict.hook is not None)
        return approval.verdict if now == approval.snapshot else None

    def forget(self, flow: http.HTTPFlow) -> None:
        """The flow has ended: nothing of it is kept."""
        self.candidates.pop(flow.id, None)
        self.approvals.pop(flow.id, None)
        self._bodies.discard(id(flow.request))


_sessions: dict[str, Session] = {}


def open_session(client_id: str, session: Session) -> None:
    _sessions[client_id] = session


def close_session(client_id: str) -> None:
    _sessions.pop(client_id, None)


def session_of(client_id: str) -> Session | None:
    """The session of an engine connection; `None` for one that did not come through a policed handler."""
    return _sessions.get(client_id)
