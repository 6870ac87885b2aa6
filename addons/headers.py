"""Which headers end at the proxy? Hop-by-hop fields are for this hop alone (spec B4.8, RFC 9110 section 7.6.1)."""

from __future__ import annotations

from mitmproxy import http

from .flow_requests import asks_for_websocket, is_inner
from .sessions import session_of

REQUEST_HOP_BY_HOP = frozenset(
    ("keep-alive", "proxy-connection", "proxy-authorization", "trailer", "te", "http2-settings", "x-unix-socket")
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
    """Strips hop-by-hop fields both ways; the upgrade to a WebSocket is the one that passes."""

    name = "codex-headers"

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_of(flow.client_conn.id)
        if flow.response or session is None or flow.id not in session.candidates:
            return
        headers = flow.request.headers
        websocket = asks_for_websocket(headers)
        trailers_wanted = flow.request.is_http2 and headers.get("te") == "trailers"
        _strip(headers, REQUEST_HOP_BY_HOP, websocket=websocket)
        if trailers_wanted:
            headers["te"] = "trailers"
        if is_inner(flow):
            _remove(headers, IDENTITY)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is None or session_of(flow.client_conn.id) is None:
            return
        _strip(flow.response.headers, RESPONSE_HOP_BY_HOP, websocket=flow.response.status_code == 101)
        if is_inner(flow):
            # It would lead the client around the proxy it does not know of.
            flow.response.headers.pop("alt-svc", None)


def _strip(headers: http.Headers, names: frozenset[str], *, websocket: bool) -> None:
    _remove(headers, names | _nominated(headers) | {"connection", "upgrade"})
    if websocket:
        headers["connection"] = "Upgrade"
        headers["upgrade"] = "websocket"


def _nominated(headers: http.Headers) -> frozenset[str]:
    """The names in every Connection line."""
    lines = (value.decode("latin-1") for name, value in headers.fields if name.lower() == b"connection")
    return frozenset(token.strip().lower() for line in lines for token in line.split(",")) - FRAMING


def _remove(headers: http.Headers, names: frozenset[str]) -> None:
    """In one pass over the fields: asking the engine's multidict for each name costs ten times as much."""
    headers.fields = tuple(field for field in headers.fields if field[0].decode("latin-1").lower() not in names)
