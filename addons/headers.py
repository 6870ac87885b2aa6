"""Which headers end at the proxy? Hop-by-hop fields are for this hop alone (spec B4.8, RFC 9110 section 7.6.1)."""

from __future__ import annotations

from mitmproxy import http

from .flow_requests import UNIX_SOCKET_HEADER, is_inner
from .sessions import session_for
from .websockets import asks_for_websocket

_HERE = frozenset((b"connection", b"upgrade", b"keep-alive", b"proxy-connection", b"trailer"))
_REQUEST = _HERE | {b"proxy-authorization", b"te", b"http2-settings", UNIX_SOCKET_HEADER.encode()}
_RESPONSE = _HERE | {b"proxy-authenticate"}
IDENTITY = frozenset(
    (
        "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "cf-connecting-ip",
        "x-real-ip", "x-client-ip", "client-ip", "true-client-ip",
    )
)  # fmt: skip
"""Names that tell the origin who the client is; removed from intercepted requests (spec B6.5)."""

_IDENTITY = frozenset(name.encode() for name in IDENTITY)
FRAMING = frozenset(("host", "content-length", "transfer-encoding"))
"""`Connection` may not nominate these: the message would change its meaning on the way."""


class Headers:
    """Strips hop-by-hop fields both ways, before any rule is asked: no rule matches on what the origin never sees.

    The upgrade to a WebSocket is the one that passes.
    """

    name = "codex-headers"

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response or flow.error or session_for(flow) is None:
            return
        request = flow.request
        trailers_wanted = request.is_http2 and request.headers.get("te", "").lower() == "trailers"
        websocket = "upgrade" in request.headers and asks_for_websocket(request)
        strip(request.headers, _REQUEST, websocket=websocket)
        if trailers_wanted:
            request.headers["te"] = "trailers"
        if is_inner(flow):
            _remove(request.headers, _IDENTITY)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is None or session_for(flow) is None:
            return
        strip(flow.response.headers, _RESPONSE, websocket=flow.response.status_code == 101)
        if is_inner(flow):
            # It would lead the client around the proxy it does not know of.
            flow.response.headers.pop("alt-svc", None)


def strip(headers: http.Headers, names: frozenset[bytes], *, websocket: bool) -> None:
    """Removes these fields and every one that a `Connection` field nominates."""
    if any(name.lower() == b"connection" for name, _ in headers.fields):
        nominated = {token.strip().lower() for value in headers.get_all("connection") for token in value.split(",")}
        names |= {name.encode("latin-1", "replace") for name in nominated - FRAMING}
    _remove(headers, names)
    if websocket:
        headers["connection"] = "Upgrade"
        headers["upgrade"] = "websocket"


def _remove(headers: http.Headers, names: frozenset[bytes]) -> None:
    fields = [item for item in headers.fields if item[0].lower() not in names]
    if len(fields) != len(headers.fields):
        headers.fields = tuple(fields)
