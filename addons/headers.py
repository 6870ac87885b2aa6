"""Which headers end at the proxy? Hop-by-hop fields are for this hop alone (spec B4.8, RFC 9110 section 7.6.1)."""

from __future__ import annotations

from collections.abc import Iterable

from mitmproxy import http

from .flow_requests import UNIX_SOCKET_HEADER, is_inner
from .sessions import session_for
from .websockets import asks_for_websocket

REQUEST_HOP_BY_HOP = frozenset(
    ("keep-alive", "proxy-connection", "proxy-authorization", "trailer", "te", "http2-settings", UNIX_SOCKET_HEADER)
)
RESPONSE_HOP_BY_HOP = frozenset(("keep-alive", "proxy-connection", "proxy-authenticate", "trailer"))
IDENTITY = frozenset(
    (
        "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "cf-connecting-ip",
        "x-real-ip", "x-client-ip", "client-ip", "true-client-ip",
    )
)  # fmt: skip
"""Names that tell the origin who the client is; removed from intercepted requests (spec B6.5)."""

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
        strip(request.headers, REQUEST_HOP_BY_HOP, websocket=asks_for_websocket(request))
        if trailers_wanted:
            request.headers["te"] = "trailers"
        if is_inner(flow):
            _remove(request.headers, IDENTITY)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is None or session_for(flow) is None:
            return
        strip(flow.response.headers, RESPONSE_HOP_BY_HOP, websocket=flow.response.status_code == 101)
        if is_inner(flow):
            # It would lead the client around the proxy it does not know of.
            flow.response.headers.pop("alt-svc", None)


def strip(headers: http.Headers, names: frozenset[str], *, websocket: bool) -> None:
    """Removes these fields and every one that a `Connection` field nominates."""
    nominated = {token.strip().lower() for value in headers.get_all("connection") for token in value.split(",")}
    _remove(headers, names | (nominated - FRAMING) | {"connection", "upgrade"})
    if websocket:
        headers["connection"] = "Upgrade"
        headers["upgrade"] = "websocket"


def _remove(headers: http.Headers, names: Iterable[str]) -> None:
    unwanted = {name.encode("latin-1", "replace") for name in names}
    headers.fields = tuple(item for item in headers.fields if item[0].lower() not in unwanted)
