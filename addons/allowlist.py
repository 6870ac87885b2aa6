"""May this client reach this host, in this way? Asks the door's authority for every flow of the engine."""

from __future__ import annotations

from mitmproxy import http

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.policy.hosts import Endpoint

from .authority import Authority
from .blocked import refuse, refuse_bad
from .fail_closed import fail_closed
from .flow_requests import BadRequest, connect_request, http_request
from .sessions import Session, session_for


class Allowlist:
    """Decides CONNECT and every request; a verdict is a candidate until the whole chain has passed."""

    name = "codex-allowlist"

    @fail_closed
    async def http_connect(self, flow: http.HTTPFlow) -> None:
        session = session_for(flow)
        if flow.response or session is None or session.authority is None:
            return
        try:
            await self._connect(flow, session, session.authority)
        except BadRequest as error:
            refuse_bad(flow, error)

    async def _connect(self, flow: http.HTTPFlow, session: Session, authority: Authority) -> None:
        request = connect_request(flow, session)
        session.user_agent = flow.request.headers.get("user-agent")
        by_door, session.tunnel_decided = session.tunnel if session.tunnel_decided else None, False
        if not (by_door and by_door.request.target == request.target and authority.still_allows(by_door)):
            session.tunnel = None
            verdict = await authority.decide(request)
            if not isinstance(verdict, Allowed):
                refuse(flow, verdict)
                return
            session.tunnel = verdict
        # Else the door has decided, audited and recorded this very CONNECT already.
        flow.request.data.host = request.host
        if session.tunnel and not session.tunnel.inspect:
            # Into an inspected tunnel nothing is dialled before a request in it has passed.
            session.grant(request.host, request.port, session.tunnel)

    @fail_closed
    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_for(flow)
        if flow.response or flow.error or session is None or session.authority is None:
            return
        if flow.id in session.candidates:  # it goes to a unix socket, and no host has a say
            return
        try:
            request = http_request(flow, session)
        except BadRequest as error:
            refuse_bad(flow, error)
            return
        verdict = await session.authority.decide(request, session.tunnel)
        if isinstance(verdict, Allowed):
            _send_canonical(flow, request.target)
            session.candidates[flow.id] = verdict
        else:
            refuse(flow, verdict)


def _send_canonical(flow: http.HTTPFlow, target: Endpoint) -> None:
    """What was matched is what is dialled and named in Host (spec A2.1), in origin form."""
    default = 443 if flow.request.data.scheme == b"https" else 80
    authority = target.host.bracketed if target.port == default else str(target)
    flow.request.data.host = target.host.text
    if flow.request.is_http2:
        flow.request.data.authority = authority.encode()
        flow.request.headers.pop("host", None)
    else:
        flow.request.data.authority = b""
        flow.request.headers["host"] = authority
