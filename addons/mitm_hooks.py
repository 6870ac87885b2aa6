"""What does the matched hook do to this request? Strips here; secrets are added only on the wire (spec A4.9, B7.4)."""

from __future__ import annotations

from mitmproxy import http

from codex_network_proxy.policy.hooks import HookMatch

from .fail_closed import fail_closed
from .sessions import session_for


class MitmHooks:
    """Removes every header that the hook strips or sets, so that the client's own value goes nowhere."""

    name = "codex-mitm-hooks"

    @fail_closed
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_for(flow)
        candidate = session.candidates.get(flow.id) if session else None
        if flow.response or candidate is None or candidate.hook is None:
            return
        edits = candidate.hook.edits
        for name in (*edits.strip, *(injection.name for injection in edits.inject)):
            flow.request.headers.pop(name, None)
        flow.comment = describe_match(candidate.hook)


def describe_match(hook: HookMatch) -> str:
    """Which hook matched and which headers it edits: names, never values."""
    stripped = ", ".join(hook.edits.strip) or "none"
    injected = ", ".join(injection.name for injection in hook.edits.inject) or "none"
    return f"mitm_hooks[{hook.index}] matched; headers stripped: {stripped}; injected on the wire: {injected}"
