"""Has every rule of the chain passed? The last addon of the bundle turns a candidate into an approval."""

from __future__ import annotations

from mitmproxy import http

from .sessions import session_of


class Approval:
    """An exception anywhere before it leaves the request without approval, and then it is never sent."""

    name = "codex-approval"

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_of(flow.client_conn.id)
        if session is None:
            return
        candidate = session.candidates.pop(flow.id, None)
        if candidate and not flow.response and not flow.error:
            session.approve(flow, candidate)
