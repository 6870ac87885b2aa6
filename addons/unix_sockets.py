"""May this request go to a unix socket? This version serves none: the answer is `501` (spec A9, B4.4)."""

from __future__ import annotations

import json

from mitmproxy import http

from codex_network_proxy.policy.decision import Blocked, BlockReason, NetworkPolicyRequest, NetworkProtocol, Unavailable
from codex_network_proxy.policy.responses import BlockResponse, error_response, plain_response

from .blocked import answer, refuse_bad
from .decision_log import log_unix_socket
from .fail_closed import fail_closed
from .flow_requests import UNIX_SOCKET, UNIX_SOCKET_HEADER, BadRequest, is_inner
from .sessions import Session, session_for
from .web_entries import describe_block, mark


class UnixSockets:
    """Refuses `x-unix-socket` before anything else looks at the request's host."""

    name = "codex-unix-sockets"

    @fail_closed
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_for(flow)
        if flow.response or flow.error or session is None or session.authority is None:
            return
        values = flow.request.headers.get_all(UNIX_SOCKET_HEADER)
        if not values:
            return
        if is_inner(flow) or len(values) != 1 or not (values[0].isascii() and values[0].isprintable()):
            refuse_bad(flow, BadRequest(400, "invalid x-unix-socket header"))
            return
        verdict = session.authority.refuse_unix_socket(_request(flow, session))
        answer(flow, _response(verdict))
        if isinstance(verdict, Blocked):
            log_unix_socket(session.client_address, values[0], allowed=False)
            mark(flow, describe_block(verdict))


def _request(flow: http.HTTPFlow, session: Session) -> NetworkPolicyRequest:
    method = flow.request.data.method.decode("latin-1")
    return NetworkPolicyRequest(
        NetworkProtocol.HTTP,
        UNIX_SOCKET,
        method=method,
        client_address=session.client_address,
        scope=session.scope,
    )


def _response(verdict: Blocked | Unavailable) -> BlockResponse:
    if isinstance(verdict, Blocked) and verdict.reason == BlockReason.UNIX_SOCKET_UNSUPPORTED:
        return error_response(501, "unix sockets unsupported", verdict.request_id)
    response = plain_response(verdict)
    if response.status != 403:
        return response
    assert isinstance(verdict, Blocked)
    body = json.dumps(
        {"status": "blocked", "host": verdict.request.host, "reason": verdict.reason}, separators=(",", ":")
    ).encode()
    headers = tuple((name, value) for name, value in response.headers if name != "content-length")
    return BlockResponse(403, response.reason_phrase, (*headers, ("content-length", str(len(body)))), body)
