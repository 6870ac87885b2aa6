"""Decision to HTTP answer: what the client of an engine flow reads, and how the flow looks in mitmweb."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mitmproxy import http

from codex_network_proxy.policy.decision import Blocked, NetworkPolicyRequest, Unavailable, Unresolved
from codex_network_proxy.policy.responses import (
    BlockResponse,
    connect_response,
    error_response,
    inner_response,
    plain_response,
    socket_response,
)

from .flow_requests import BadRequest, asks_for_socket, connect_request, http_request, is_inner, socket_request
from .sessions import Session, session_for
from .web_entries import describe_block, mark

logger = logging.getLogger("codex_network_proxy")

DISCARD_LIMIT = 16 << 20
"""Bytes of a refused upload that are read and thrown away before the client is cut off.

Many clients read the answer only after they have sent everything.
"""

Refusal = Blocked | Unresolved | Unavailable


def refuse(flow: http.HTTPFlow, verdict: Refusal) -> None:
    """Answers the flow with the verdict, in the form of its door (spec A5)."""
    if flow.request.data.method == b"CONNECT":
        response = connect_response(verdict)
    elif verdict.request.socket_path is not None:
        response = socket_response(verdict)
    elif is_inner(flow):
        response = inner_response(verdict)
    else:
        response = plain_response(verdict)
    answer(flow, response)
    if isinstance(verdict, Blocked):
        mark(flow, describe_block(verdict))


def refuse_bad(flow: http.HTTPFlow, error: BadRequest) -> None:
    """Answers a request that no policy was asked about."""
    answer(flow, error_response(error.status, error.text))
    flow.comment = f"refused: {error.text}"


def refuse_undecided(flow: http.HTTPFlow) -> None:
    """The last word on a flow that nothing allowed, or that was changed after it was allowed (spec A4.8)."""
    try:
        verdict = _denied(flow)
    except Exception as error:
        # This is where everything ends that has failed; it must not fail itself.
        logger.error("a deny could not be recorded (%s)", type(error).__name__)
        verdict = None
    if verdict:
        refuse(flow, verdict)
    else:
        response = error_response(403, "Codex blocked this request by network policy.")
        headers = (*response.headers, ("x-proxy-error", "blocked-by-policy"))
        phrase = "Blocked by network policy (blocked-by-policy)"
        answer(flow, BlockResponse(response.status, phrase, headers, response.body))
        mark(flow, "blocked: policy_denied")
    flow.comment += "; nothing allowed this request, or it was changed after it had been allowed"


def _denied(flow: http.HTTPFlow) -> Blocked | None:
    session = session_for(flow)
    request = _known_request(flow, session) if session else None
    return session.authority.deny(request) if session and session.authority and request else None


def _known_request(flow: http.HTTPFlow, session: Session) -> NetworkPolicyRequest | None:
    """What to write into the audit log: the request that was judged, else what can be read from the flow."""
    if approval := session.approvals.get(flow.id):
        return approval.verdict.request
    if candidate := session.candidates.get(flow.id):
        return candidate.request
    try:
        return _question(flow)(flow, session)
    except BadRequest:
        return None


def _question(flow: http.HTTPFlow) -> Callable[[http.HTTPFlow, Session], NetworkPolicyRequest]:
    if flow.request.data.method == b"CONNECT":
        return connect_request
    return socket_request if asks_for_socket(flow) else http_request


def answer(flow: http.HTTPFlow, response: BlockResponse) -> None:
    """Puts an answer of the proxy's own on the flow, sent at once even while a body is still coming in."""
    head_only = flow.request.data.method == b"HEAD"
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    now = time.time()
    flow.response = http.Response(
        http_version=flow.request.data.http_version,
        status_code=response.status,
        reason=response.reason_phrase.encode("latin-1"),
        headers=http.Headers(fields),
        content=b"" if head_only else response.body,
        trailers=None,
        timestamp_start=now,
        timestamp_end=now,
    )
    # Without this the engine would read the whole body first.
    flow.request.stream = True
