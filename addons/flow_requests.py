"""From an engine flow to a question for the policy: parsed once, strictly, from what will be sent."""

from __future__ import annotations

from mitmproxy import http

from codex_network_proxy.policy.decision import HttpUse, NetworkPolicyRequest, NetworkProtocol, Tunnel
from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.hosts import Endpoint, parse_endpoint, parse_host, parse_port
from codex_network_proxy.policy.unix_sockets import UNIX_SOCKET

from .sessions import Session
from .websockets import asks_for_websocket

MISMATCH = "host mismatch"

UNIX_SOCKET_HEADER = "x-unix-socket"
SOCKET_PORT = UNIX_SOCKET.port
"""No server has it: with it, the host of a flow is the path of a unix socket."""


class BadRequest(Exception):
    """A request that is refused before any policy: a status and a text for the client."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def is_inner(flow: http.HTTPFlow) -> bool:
    """Whether the request came inside an intercepted tunnel."""
    return flow.client_conn.tls_established


def target_of(flow: http.HTTPFlow) -> Endpoint:
    """Where the request goes. Raises `BadRequest` for a host that cannot be canonicalised."""
    try:
        return Endpoint(parse_host(flow.request.data.host), parse_port(str(flow.request.data.port)))
    except InvalidHost as error:
        raise BadRequest(400, "invalid host") from error


def connect_request(flow: http.HTTPFlow, session: Session) -> NetworkPolicyRequest:
    """The question that a CONNECT asks."""
    return NetworkPolicyRequest(
        NetworkProtocol.HTTPS_CONNECT, target_of(flow), Tunnel(), "CONNECT", session.client_address, session.scope
    )


def asks_for_socket(flow: http.HTTPFlow) -> bool:
    """Whether the request is for a unix socket: it names one, or was judged to go to one."""
    return UNIX_SOCKET_HEADER in flow.request.headers or flow.request.data.port == SOCKET_PORT


def socket_request(flow: http.HTTPFlow, session: Session) -> NetworkPolicyRequest:
    """The question that a request with `x-unix-socket` asks. Raises `BadRequest` for a field that names no path."""
    values = flow.request.headers.get_all(UNIX_SOCKET_HEADER)
    if is_inner(flow) or len(values) != 1 or not (values[0].isascii() and values[0].isprintable()):
        raise BadRequest(400, "invalid x-unix-socket header")
    method = flow.request.data.method.decode("latin-1")
    return NetworkPolicyRequest(
        NetworkProtocol.HTTP,
        UNIX_SOCKET,
        _use(flow, session, method, secure=False),
        method,
        session.client_address,
        session.scope,
        values[0],
    )


def http_request(flow: http.HTTPFlow, session: Session) -> NetworkPolicyRequest:
    """The question that a request asks: plain, absolute `https:`, or inside an intercepted tunnel."""
    method = flow.request.data.method.decode("latin-1")
    if method.upper() == "TRACE":
        raise BadRequest(405, "TRACE is not supported")
    target = inner_target(flow, session) if is_inner(flow) else plain_target(flow)
    secure = flow.request.data.scheme == b"https"
    protocol = NetworkProtocol.HTTPS_CONNECT if is_inner(flow) else NetworkProtocol.HTTP
    use = _use(flow, session, method, secure)
    return NetworkPolicyRequest(protocol, target, use, method, session.client_address, session.scope)


def inner_target(flow: http.HTTPFlow, session: Session) -> Endpoint:
    """The tunnel's target, if everything the request says of its host agrees with it (spec A4.3)."""
    if session.tunnel is None:
        raise BadRequest(400, MISMATCH)
    target = session.tunnel.request.target
    if target_of(flow) != target:
        raise BadRequest(400, MISMATCH)
    for authority in _authorities(flow):
        if _endpoint(authority, 443, MISMATCH) != target:
            raise BadRequest(400, MISMATCH)
    return target


def plain_target(flow: http.HTTPFlow) -> Endpoint:
    """The target of an absolute-form or origin-form request, if the Host header agrees (spec B4.6)."""
    target = target_of(flow)
    default = 443 if flow.request.data.scheme == b"https" else 80
    for authority in flow.request.headers.get_all("host"):
        if _endpoint(authority, default, "invalid Host header") != target:
            raise BadRequest(400, "Host header does not match request target")
    return target


def _authorities(flow: http.HTTPFlow) -> list[str]:
    """Every place in which an inner request names its host."""
    hosts = flow.request.headers.get_all("host")
    if len(hosts) > 1:
        raise BadRequest(400, MISMATCH)
    authority = flow.request.data.authority
    return [*hosts, *([authority.decode("utf-8", "replace")] if authority else [])]


def _endpoint(authority: str, default_port: int, text: str) -> Endpoint:
    try:
        return parse_endpoint(authority, default_port)
    except InvalidHost as error:
        raise BadRequest(400, text) from error


def _use(flow: http.HTTPFlow, session: Session, method: str, secure: bool) -> HttpUse:
    fields = flow.request.headers.fields
    return HttpUse(
        method=method,
        secure=secure,
        path=flow.request.data.path.decode("latin-1"),
        headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in fields),
        has_body=session.expects_body(flow) or _announces_body(flow),
        upgrade="websocket" if asks_for_websocket(flow.request) else None,
    )


def _announces_body(flow: http.HTTPFlow) -> bool:
    length = flow.request.headers.get("content-length", "0")
    return "transfer-encoding" in flow.request.headers or length.strip("0") != ""
