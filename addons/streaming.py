"""Is this body worth keeping? Bodies flow through; only small ones of known length are kept, for mitmweb."""

from __future__ import annotations

from mitmproxy import ctx, http

from .sessions import session_of

KEPT_BODY = 256 * 1024
"""Bytes up to which a body of announced length is kept so that mitmweb can show it."""

KEPT_MESSAGES = 100
"""WebSocket messages kept of one connection while mitmweb is there; otherwise only the last."""


class Streaming:
    """Constant memory for any body, event by event for server-sent events (no waiting for the end)."""

    name = "codex-streaming"

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_of(flow.client_conn.id)
        if flow.response is None and session and flow.id in session.candidates:
            flow.request.stream = not _is_kept(flow.request)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is not None:
            flow.response.stream = not _is_kept(flow.response)

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        assert flow.websocket
        del flow.websocket.messages[: -(KEPT_MESSAGES if _has_view() else 1)]


def _is_kept(message: http.Message) -> bool:
    length = message.headers.get("content-length", "")
    return _has_view() and length.isdecimal() and int(length) <= KEPT_BODY


def _has_view() -> bool:
    return ctx.master.addons.get("view") is not None
