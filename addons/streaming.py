"""Is this body worth keeping? Bodies flow through; only small ones of known length are kept, for mitmweb."""

from __future__ import annotations

from mitmproxy import ctx, http

from .sessions import session_for

KEPT_BODY = 256 * 1024
"""Bytes up to which a body of announced length is kept so that mitmweb can show it."""

KEPT_MESSAGES = 100
"""WebSocket messages that are kept of one connection, and never more bytes than `KEPT_BODY`."""


class Streaming:
    """Constant memory for any body, event by event for server-sent events (no waiting for the end)."""

    name = "codex-streaming"

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is None and session_for(flow):
            flow.request.stream = not _is_kept(flow.request)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is not None:
            flow.response.stream = not _is_kept(flow.response)

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        assert flow.websocket
        messages = flow.websocket.messages
        kept, size = 0, 0
        for message in reversed(messages[-KEPT_MESSAGES:]):
            size += len(message.content)
            if kept and size > KEPT_BODY:
                break
            kept += 1
        del messages[: len(messages) - kept]


def has_view() -> bool:
    """Whether somebody looks at the flows."""
    return ctx.master.addons.get("view") is not None


def _is_kept(message: http.Message) -> bool:
    length = message.headers.get("content-length", "")
    return has_view() and length.isdecimal() and int(length) <= KEPT_BODY
