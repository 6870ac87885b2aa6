"""Secrets at the last moment: read when a request is sent, put on the wire, and forgotten (spec A4.9)."""

from __future__ import annotations

import logging

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.proxy.layers.http import RequestHeaders

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.policy.errors import SecretUnavailable
from codex_network_proxy.policy.header_edits import ResolvedEdits, apply, resolve_edits

from .sessions import Session

logger = logging.getLogger("codex_network_proxy")


class SecretHead(RequestHeaders):
    """A request head for the wire. `shown` is the same request without secrets, for everything that outlives it."""

    def __init__(self, stream_id: int, request: http.Request, end_stream: bool, shown: http.Request) -> None:
        super().__init__(stream_id, request, end_stream)
        self.shown = shown

    def __repr__(self) -> str:
        return "SecretHead()"


def secret_edits(session: Session, verdict: Allowed, server: Server, *, insecure: bool) -> ResolvedEdits | None:
    """The hook's edits with their secrets; nothing where they may not go or cannot be read."""
    assert verdict.hook
    try:
        if verdict.hook.edits.inject and (insecure or not is_verified(session, verdict, server)):
            raise SecretUnavailable("secrets are sent over verified TLS to the hooked host only")
        if session.secrets is None:
            raise SecretUnavailable("no source of secrets")
        return resolve_edits(verdict.hook.edits, session.secrets)
    except SecretUnavailable as error:
        logger.error("request refused (request_id=%s): %s", verdict.request_id, error)
        return None


def is_verified(session: Session, verdict: Allowed, server: Server) -> bool:
    """Whether the connection goes to an address that was checked for the hooked host, which has proved its name."""
    target, dialled = verdict.request.target, session.dialled.get(server.id)
    return (
        dialled is not None
        and dialled.request.target == target
        and server.tls_established
        and server.sni == target.host.text
    )


def with_secrets(head: RequestHeaders, edits: ResolvedEdits) -> SecretHead:
    """A copy of the head with the edits applied; the flow that others see never holds them."""
    shown = head.request
    data = shown.data
    fields = http.Headers(apply(data.headers.fields, edits))
    request = http.Request(
        data.host, data.port, data.method, data.scheme, data.authority, data.path, data.http_version, fields,
        None, None, data.timestamp_start, None,
    )  # fmt: skip
    return SecretHead(head.stream_id, request, head.end_stream, shown)
