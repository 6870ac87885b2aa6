"""What a client is told when a request fails: useful, and nothing that the origin or the client wrote (spec A5)."""

from __future__ import annotations

from codex_network_proxy.socks.dialler import DialFailure

UPSTREAM_FAILURE = "upstream failure"
SOCKET_FAILURE = "unix socket proxy failed"
"""All that is said of a unix socket (spec B4.4); the log says more."""

CANCELLED = "connection cancelled"
"""Nobody waits for the dial any more: the client has left, or was cut."""

_OURS = (
    *(str(failure) for failure in DialFailure),
    "the origin ",
    "the origin's ",
    "the upstream proxy ",
    "the upstream proxy's ",
    "could not resolve ",
    CANCELLED,
    "blocked by network policy",
)
"""How our own messages begin; everything else comes from the engine, which quotes what it could not read."""

_CERTIFICATE = "certificate verify failed"


def client_text(status: int, message: str) -> str:
    """The text of a failed request, from the engine's message about it."""
    match status:
        case 413:
            return "request body too large"
        case 502 if message == SOCKET_FAILURE:
            return message
        case 502:
            return f"{UPSTREAM_FAILURE}: {_reason(message)}"
        case _:
            return "bad request"


def _reason(message: str) -> str:
    lower = message.lower()
    if message.startswith(_OURS):
        return message
    if _CERTIFICATE in lower:
        return f"the origin's certificate is not trusted ({_certificate_reason(lower)})"
    if "tls" in lower or "ssl" in lower:
        return "the TLS handshake with the origin failed"
    if "closed" in lower or "disconnected" in lower:
        return "the origin closed the connection"
    return "the origin sent no valid HTTP response"


def _certificate_reason(message: str) -> str:
    """OpenSSL's words for the failure, as in `certificate verify failed: hostname mismatch`."""
    reason = message.partition(_CERTIFICATE)[2].lstrip(": ")
    return reason if reason and reason.replace(" ", "").replace("-", "").isalnum() else "verification failed"
