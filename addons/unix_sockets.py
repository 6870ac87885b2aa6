"""May this request go to a unix socket? One with `x-unix-socket` names a file in place of a host (spec A9, B4.4)."""

from __future__ import annotations

from mitmproxy import http

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.policy.unix_sockets import SocketFile

from .blocked import refuse, refuse_bad
from .fail_closed import fail_closed
from .flow_requests import SOCKET_PORT, UNIX_SOCKET_HEADER, BadRequest, socket_request
from .sessions import session_for


class UnixSockets:
    """Asks before anything else looks at the request's host, which is only a header here and stays as it is."""

    name = "codex-unix-sockets"

    @fail_closed
    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_for(flow)
        if flow.response or flow.error or session is None or session.authority is None:
            return
        if UNIX_SOCKET_HEADER not in flow.request.headers:
            return
        # Nothing behind this header is switched to: what an origin does with an upgrade, nobody could judge.
        flow.request.headers.pop("upgrade", None)
        try:
            request = socket_request(flow, session)
        except BadRequest as error:
            refuse_bad(flow, error)
            return
        verdict = await session.authority.decide(request)
        if isinstance(verdict, Allowed) and verdict.socket is not None:
            _send_to(flow, verdict.socket)
            flow.comment = f"unix socket {verdict.socket.real} (id {verdict.request_id})"
            session.candidates[flow.id] = verdict
        elif not isinstance(verdict, Allowed):
            refuse(flow, verdict)


def _send_to(flow: http.HTTPFlow, found: SocketFile) -> None:
    """The address under which the guard grants a dial: a path cannot be taken for a host, nor port 0 for a port."""
    flow.request.data.host = found.real
    flow.request.data.port = SOCKET_PORT
    flow.request.data.scheme = b"http"
    flow.request.data.authority = b""
    # HTTP/1.1 has no request without it; who asks for a socket need not name a host.
    flow.request.headers.setdefault("host", "localhost")
