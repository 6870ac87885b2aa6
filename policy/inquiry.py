"""What a person asks about, as the questions that a client would ask: a URL, or a host and port (spec B9.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .decision import HttpUse, NetworkPolicyRequest, NetworkProtocol, Tunnel
from .errors import InvalidHost
from .hosts import Endpoint, parse_endpoint

Headers = Sequence[tuple[str, str]]

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)")
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SECURE = frozenset({"https", "wss"})
_WEBSOCKET = frozenset({"ws", "wss"})
_TUNNELS = frozenset({NetworkProtocol.HTTPS_CONNECT, NetworkProtocol.SOCKS5_TCP, NetworkProtocol.SOCKS5_UDP})


def questions(
    text: str, *, method: str | None = None, headers: Headers = (), protocol: NetworkProtocol | None = None
) -> tuple[NetworkPolicyRequest, ...]:
    """The questions about `URL` or `HOST[:PORT]`, in the order in which they are decided.

    A tunnel comes first; the request inside it, which matters when the tunnel is read, second. A bare host asks for a
    tunnel alone, unless there is a `method`. `protocol` is by default that of the URL: `http://` is plain HTTP, all
    else a CONNECT. Raises `InvalidHost`, whose text says what to write instead.
    """
    scheme, authority, path = _split(text)
    if protocol is None:
        protocol = NetworkProtocol.HTTP if scheme in ("http", "ws") else NetworkProtocol.HTTPS_CONNECT
    port = _PORTS.get(scheme, 80 if protocol is NetworkProtocol.HTTP else 443)
    target = _target(authority, port)
    use = HttpUse(
        method=method or "GET",
        secure=scheme in _SECURE or protocol in _TUNNELS,
        path=path or "/",
        headers=tuple(headers),
        upgrade="websocket" if scheme in _WEBSOCKET else None,
    )
    if protocol is NetworkProtocol.HTTP:
        return (NetworkPolicyRequest(protocol, target, use, use.method),)
    outer = NetworkPolicyRequest(protocol, target, Tunnel(), _method_of(protocol))
    if protocol is NetworkProtocol.SOCKS5_UDP or not (scheme or method):
        return (outer,)
    return outer, NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, target, use, use.method)


def _split(text: str) -> tuple[str, str, str]:
    """Scheme, authority and path; a host alone has no scheme."""
    found = _URL.match(text)
    if found is None:
        if "/" in text:
            raise InvalidHost(f"a path needs a scheme; write https://{text}")
        return "", text, ""
    scheme, authority, path = found[1].lower(), found[2], found[3]
    if scheme not in _PORTS:
        raise InvalidHost(f"{scheme}:// is not HTTP; write the host and port alone, {authority}")
    if "@" in authority:
        raise InvalidHost("has user-info; write the URL without it")
    return scheme, authority, f"/{path}" if path.startswith("?") else path


def _target(authority: str, default_port: int) -> Endpoint:
    return parse_endpoint(authority, default_port)


def _method_of(protocol: NetworkProtocol) -> str | None:
    return "CONNECT" if protocol is NetworkProtocol.HTTPS_CONNECT else None
