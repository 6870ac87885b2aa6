"""May this client reach this host, in this way? Asks the door's authority for every flow of the engine."""

from __future__ import annotations

from mitmproxy import http

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.policy.hosts import Endpoint

from .blocked import refuse, refuse_bad
from .flow_requests import BadRequest, connect_request, http_request, is_inner
from .sessions import Session, session_of


class Allowlist:
    """Decides CONNECT and every request; a verdict is a candidate until the whole chain has passed."""

    name = "codex-allowlist"

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        session = session_of(flow.client_conn.id)
        if flow.response or session is None or session.authority is None:
            return
        try:
            await self._connect(flow, session)
        except BadRequest as error:
            refuse_bad(flow, error)

    async def _connect(self, flow: http.HTTPFlow, session: Session) -> None:
        request = connect_request(flow, session)
        session.user_agent = flow.request.headers.get("user-agent")
        if session.tunnel_decided and session.tunnel and session.tunnel.request.target == request.target:
            # The door has decided, audited and recorded this very CONNECT already.
            verdict = session.tunnel
        else:
            assert session.authority
            session.tunnel = None
            answer = await session.authority.decide(request)
            if not isinstance(answer, Allowed):
                refuse(flow, answer)
                return
            verdict = answer
        session.tunnel_decided = False
        session.tunnel = verdict
        flow.request.data.host = request.host
        session.grant(request.host, request.port, verdict)

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_of(flow.client_conn.id)
        if flow.response or flow.error or session is None or session.authority is None:
            return
        try:
            request = http_request(flow, session)
        except BadRequest as error:
            refuse_bad(flow, error)
            return
        verdict = await session.authority.decide(request)
        if isinstance(verdict, Allowed):
            _send_canonical(flow, request.target)
            session.candidates[flow.id] = verdict
        else:
            refuse(flow, verdict)

    def response(self, flow: http.HTTPFlow) -> None:
        if (session := session_of(flow.client_conn.id)) and flow.websocket is None:
            session.forget(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        if session := session_of(flow.client_conn.id):
            session.forget(flow)

    websocket_end = error


def _send_canonical(flow: http.HTTPFlow, target: Endpoint) -> None:
    """What was matched is what is dialled and named in Host (spec A2.1)."""
    default = 443 if flow.request.scheme == "https" else 80
    authority = target.host.bracketed if target.port == default else str(target)
    flow.request.data.host = target.host.text
    if flow.request.is_http2 and is_inner(flow):
        flow.request.data.authority = authority.encode()
    if "host" in flow.request.headers or not flow.request.is_http2:
        flow.request.headers["host"] = authority
