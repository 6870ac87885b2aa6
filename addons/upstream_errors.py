"""What a client is told when the origin fails: useful, and nothing that the origin wrote (spec A5)."""

from __future__ import annotations

UPSTREAM_FAILURE = "upstream failure"

_KNOWN = (
    "the origin answered with status",
    "the origin's response head is too large",
    "could not resolve",
    "blocked by network policy",
)


def client_text(status: int, message: str) -> str:
    """The text of a failed request. What the origin sent may be quoted in the engine's message and is left out."""
    if status != 502:
        return "bad request"
    return f"{UPSTREAM_FAILURE}: {_reason(message)}"


def _reason(message: str) -> str:
    lower = message.lower()
    if "certificate verify failed" in lower:
        return "the origin's certificate is not trusted (" + _certificate_reason(message) + ")"
    if any(message.startswith(known) for known in _KNOWN) or _is_dial_error(lower):
        return message
    if "closed" in lower or "disconnected" in lower:
        return "the origin closed the connection"
    if "tls" in lower or "ssl" in lower:
        return "the TLS handshake with the origin failed"
    return "the origin sent no valid HTTP response"


def _certificate_reason(message: str) -> str:
    """OpenSSL's words for the failure, as in `Certificate verify failed: hostname mismatch`."""
    reason = message.rpartition(":")[2].strip()
    return reason if reason.replace(" ", "").replace("-", "").isalnum() else "verification failed"


def _is_dial_error(message: str) -> bool:
    return message in {
        "connection refused",
        "connection timed out",
        "host unreachable",
        "network unreachable",
        "connection failed",
    }
