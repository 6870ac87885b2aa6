"""What was decided for each engine connection: the side table that the addons, the HTTP layers and the guard share.

It lives beside the flows, never in them, so nothing of it reaches mitmweb, saved flows or another script.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mitmproxy import http
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands

from codex_network_proxy.policy.decision import UNSCOPED, Allowed, ClientScope, HttpUse
from codex_network_proxy.policy.interfaces import SecretSource
from codex_network_proxy.socks.dialler import DialFailure

from .authority import Authority
from .interception import Interception
from .tenant import Tenant
from .upstream_errors import CANCELLED, client_text
from .upstream_forward import ProxyHop, forwards, hop_of

Address = tuple[str, int]


class Snapshot(NamedTuple):
    """The request as it was judged. A request that differs from it when it is sent is not the one that was allowed."""

    method: bytes
    scheme: bytes
    authority: bytes
    host: str
    port: int
    path: bytes
    version: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    def __repr__(self) -> str:
        return f"Snapshot({self.host}:{self.port})"  # the fields may hold secrets

    @classmethod
    def of(cls, request: http.Request) -> Snapshot:
        data = request.data
        return cls(
            data.method, data.scheme, data.authority, data.host, data.port, data.path, data.http_version,
            data.headers.fields,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Approval:
    verdict: Allowed
    snapshot: Snapshot


@dataclass(slots=True)
class Session:
    """One client connection in the engine.

    `tenant` is the proxy whose client it is; a client of none is granted nothing. `tunnel` is the decision on the
    CONNECT target. `grants` holds, for each target that may be dialled, the verdict with the addresses that were
    checked for it; what is not in it is not dialled. `candidates` are verdicts that still wait for the rest of the
    chain; `approvals` are requests that may be sent. `bodies` names the flows whose head is followed by a body,
    `dialled` says under which verdict each open server connection was dialled, and `forwarding` which of them lead to
    an upstream proxy that is sent the requests themselves. `failure` is why the last dial failed. `spoke`: the client
    has sent a request through the tunnel, so it trusts us. `run_hook` runs the addons' hook of a flow in place, see
    `DirectEvents`. `unwinds`: the request that begins now has waited behind another, whose end is still being
    processed; that comes to its end first.
    """

    tenant: Tenant | None
    client_address: str
    scope: ClientScope = UNSCOPED
    tunnel: Allowed | None = None
    tunnel_decided: bool = False
    user_agent: str | None = None
    spoke: bool = False
    grants: dict[Address, Allowed] = field(default_factory=dict)
    candidates: dict[str, Allowed] = field(default_factory=dict)
    approvals: dict[str, Approval] = field(default_factory=dict)
    bodies: set[str] = field(default_factory=set)
    dialled: dict[str, Allowed] = field(default_factory=dict)
    forwarding: dict[str, ProxyHop] = field(default_factory=dict)
    failure: DialFailure = DialFailure.OTHER
    unwinds: bool = False
    run_hook: Callable[[commands.StartHook], bool] = field(default=lambda _: False, repr=False)
    _held: dict[Connection, asyncio.Event] = field(default_factory=dict)

    @property
    def authority(self) -> Authority | None:
        return self.tenant.authority if self.tenant else None

    @property
    def secrets(self) -> SecretSource | None:
        return self.tenant.secrets if self.tenant else None

    @property
    def interception(self) -> Interception | None:
        return self.tenant.tls.interception if self.tenant else None

    def expects_body(self, flow: http.HTTPFlow) -> bool:
        return flow.id in self.bodies

    def approve(self, flow: http.HTTPFlow, verdict: Allowed) -> None:
        """Records that exactly this request may be sent, to exactly the checked addresses."""
        self.grant(flow.request.data.host, flow.request.data.port, verdict)
        self.approvals[flow.id] = Approval(verdict, Snapshot.of(flow.request))

    def grant(self, host: str, port: int, verdict: Allowed) -> None:
        self.grants[(host, port)] = verdict

    def approved(self, flow: http.HTTPFlow) -> Allowed | None:
        """The verdict for this request, if it is still the request that was judged; else nothing."""
        approval = self.approvals.get(flow.id)
        if approval is None or Snapshot.of(flow.request) != approval.snapshot:
            return None
        use = approval.verdict.request.use
        grown = bool(flow.request.data.content or flow.request.data.trailers)
        return None if grown and not (isinstance(use, HttpUse) and use.has_body) else approval.verdict

    def dialled_under(self, server_id: str, verdict: Allowed) -> None:
        """Notes an open server connection. It may stand for as long as its host and address are allowed to be read."""
        if self.tunnel and self.tunnel.request.target == verdict.request.target:
            standing = replace(
                self.tunnel, addresses=verdict.addresses, upstream=verdict.upstream, looked_up=verdict.looked_up
            )
        else:
            use = verdict.request.use
            reading = HttpUse("GET", secure=isinstance(use, HttpUse) and use.secure)
            standing = replace(verdict, request=replace(verdict.request, use=reading))
        self.dialled[server_id] = standing
        if forwards(verdict):
            self.forwarding[server_id] = hop_of(verdict)

    def closed(self, server_id: str) -> None:
        """The server connection has ended."""
        self.dialled.pop(server_id, None)
        self.forwarding.pop(server_id, None)

    def unreached(self, verdict: Allowed, error: str, status: int = 502) -> None:
        """What was allowed has failed with this message of the engine. Where the client left first, nothing has."""
        if self.authority and error != CANCELLED:
            self.authority.unreached(verdict, client_text(status, error))

    def verdicts(self) -> list[Allowed]:
        """Everything this connection does at the moment because a policy once allowed it."""
        requests = [approval.verdict for approval in self.approvals.values()]
        return [*([self.tunnel] if self.tunnel else []), *requests, *self.dialled.values()]

    def forget(self, flow: http.HTTPFlow) -> None:
        """The flow has ended: nothing of it is kept."""
        self.candidates.pop(flow.id, None)
        self.bodies.discard(flow.id)
        approval = self.approvals.pop(flow.id, None)
        if approval:
            self._forget_grant((approval.snapshot.host, approval.snapshot.port))

    def _forget_grant(self, address: Address) -> None:
        """A target may be dialled for as long as a request to it is on its way, or through a relayed tunnel."""
        waiting = (approval.snapshot for approval in self.approvals.values())
        relayed = self.tunnel is not None and not self.tunnel.inspect
        if not relayed and all((one.host, one.port) != address for one in waiting):
            self.grants.pop(address, None)

    def hold(self, connection: Connection, on: bool) -> None:
        """Asks the connection's reader to wait after what it has read, or to go on."""
        if on:
            self._held.setdefault(connection, asyncio.Event())
        elif event := self._held.pop(connection, None):
            event.set()

    async def may_read(self, connection: Connection) -> None:
        """Waits until nobody holds the connection any more."""
        while event := self._held.get(connection):
            await event.wait()


_sessions: dict[str, Session] = {}


def open_session(client_id: str, session: Session) -> None:
    _sessions[client_id] = session


def close_session(client_id: str) -> None:
    _sessions.pop(client_id, None)


def session_of(client_id: str) -> Session | None:
    """The session of an engine connection; `None` for one that did not come through a policed handler."""
    return _sessions.get(client_id)


def session_for(flow: http.HTTPFlow) -> Session | None:
    """The session of a flow; `None` also for a replay, which takes a way around every layer of ours."""
    return None if flow.is_replay == "request" else _sessions.get(flow.client_conn.id)
