"""Does this request only read? A second lock for limited mode, beside the decision itself (spec B5)."""

from __future__ import annotations

from mitmproxy import http

from codex_network_proxy.policy.decision import BlockReason
from codex_network_proxy.policy.modes import NetworkMode, method_allowed

from .blocked import refuse
from .fail_closed import fail_closed
from .sessions import session_for

METHOD_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")


class LimitedMode:
    """In limited mode no other method leaves, and no header may turn a read into a write at the origin."""

    name = "codex-limited-mode"

    @fail_closed
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_for(flow)
        if flow.response or session is None or session.authority is None:
            return
        if session.authority.mode is not NetworkMode.LIMITED:
            return
        candidate = session.candidates.get(flow.id)
        method = flow.request.data.method.decode("latin-1")
        if candidate and not method_allowed(NetworkMode.LIMITED, method):
            # The mode narrowed between the decision and this hook.
            del session.candidates[flow.id]
            refuse(flow, session.authority.deny(candidate.request, BlockReason.METHOD_NOT_ALLOWED))
        for name in METHOD_OVERRIDES:
            flow.request.headers.pop(name, None)
