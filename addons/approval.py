"""Has every rule of the chain passed? The last addon of the bundle turns a candidate into an approval."""

from __future__ import annotations

from mitmproxy import http

from .fail_closed import fail_closed
from .sessions import session_for


class Approval:
    """A rule that refuses or fails has answered the flow; then the candidate counts for nothing."""

    name = "codex-approval"

    @fail_closed
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_for(flow)
        if session is None:
            return
        candidate = session.candidates.pop(flow.id, None)
        if candidate and not flow.response and not flow.error:
            session.approve(flow, candidate)
