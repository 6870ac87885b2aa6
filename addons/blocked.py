"""Decision to HTTP answer: what the client of an engine flow reads, and how the flow looks in mitmweb."""

from __future__ import annotations

import time

from mitmproxy import http

from codex_network_proxy.policy.decision import Blocked, Unavailable, Unresolved
from codex_network_proxy.policy.responses import (
    BlockResponse,
    connect_response,
    error_response,
    inner_response,
    plain_response,
)

from .flow_requests import BadRequest, is_inner
from .sessions import session_of
from .web_entries import describe_block, mark

DISCARD_LIMIT = 1 << 20
"""Bytes of a refused upload that are read and thrown away before the client is cut off."""

Refusal = Blocked | Unresolved | Unavailable


def refuse(flow: http.HTTPFlow, verdict: Refusal) -> None:
    """Answers the flow with the verdict, in the form of its door (spec A5)."""
    if flow.request.method == "CONNECT":
        response = connect_response(verdict)
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
    response = error_response(403, "Codex blocked this request by network policy.")
    headers = (*response.headers, ("x-proxy-error", "blocked-by-policy"))
    phrase = "Blocked by network policy (blocked-by-policy)"
    answer(flow, BlockResponse(response.status, phrase, headers, response.body))
    mark(flow, "blocked: policy_denied")


def answer(flow: http.HTTPFlow, response: BlockResponse) -> None:
    """Puts an answer of the proxy's own on the flow, sent at once even while a body is still coming in."""
    head_only = flow.request.data.method.upper() == b"HEAD"
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    if _is_large_upload(flow) and not flow.request.is_http2:
        fields.append((b"connection", b"close"))
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
    # Without this the engine would read the whole body first, and ask for it with `100 Continue`.
    flow.request.stream = True
    flow.request.headers.pop("expect", None)


def _is_large_upload(flow: http.HTTPFlow) -> bool:
    session = session_of(flow.client_conn.id)
    length = flow.request.headers.get("content-length")
    if length is None:
        return session is not None and session.expects_body(flow)
    return not length.isdecimal() or int(length) > DISCARD_LIMIT
