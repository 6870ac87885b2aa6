"""May this request go to a unix socket? This version serves none: the answer is `501` (spec A9, B4.4)."""

from __future__ import annotations

import json

from mitmproxy import http

from codex_network_proxy.policy.decision import Blocked, BlockReason, NetworkPolicyRequest, NetworkProtocol, Unavailable
from codex_network_proxy.policy.hosts import Endpoint, Host
from codex_network_proxy.policy.responses import BlockResponse, error_response, plain_response

from .blocked import answer, refuse_bad
from .flow_requests import BadRequest, is_inner
from .sessions import Session, session_of
from .web_entries import describe_block, mark

HEADER = "x-unix-socket"
UNIX_SOCKET = Endpoint(Host("unix-socket", None, None), 0)
"""The sentinel that audit events name instead of a server (spec B10.3)."""


class UnixSockets:
    """Refuses `x-unix-socket` before anything else looks at the request's host."""

    name = "codex-unix-sockets"

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_of(flow.client_conn.id)
        if flow.response or flow.error or session is None or session.authority is None:
            return
        if HEADER not in flow.request.headers or is_inner(flow):
            return
        values = flow.request.headers.get_all(HEADER)
        if len(values) != 1 or not (values[0].isascii() and values[0].isprintable()):
            refuse_bad(flow, BadRequest(400, "invalid x-unix-socket header"))
            return
        verdict = session.authority.refuse_unix_socket(_request(flow, session))
        answer(flow, _response(verdict))
        if isinstance(verdict, Blocked):
            mark(flow, describe_block(verdict))


def _request(flow: http.HTTPFlow, session: Session) -> NetworkPolicyRequest:
    method = flow.request.data.method.decode("latin-1")
    return NetworkPolicyRequest(NetworkProtocol.HTTP, UNIX_SOCKET, method=method, client_address=session.client_address)


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
