"""The answers that the door gives by itself, ready to send."""

from __future__ import annotations

import secrets
from dataclasses import replace

from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    BlockReason,
    Decision,
    DecisionSource,
    NetworkPolicyRequest,
    PolicyScope,
    Ruling,
)
from codex_network_proxy.policy.responses import BlockResponse, error_response, wire

from .http_head import BadHead
from .upstream_errors import UPSTREAM_FAILURE

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT"


def bad_head(error: BadHead) -> bytes:
    """The one answer to a head that is refused; the connection closes."""
    return wire(bad_head_response(error), close=True)


def bad_head_response(error: BadHead) -> BlockResponse:
    """The same for any version of HTTP."""
    answer = error_response(error.status, error.message)
    if error.status == 405:  # RFC 9110 section 15.5.6 asks for the methods that do work
        answer = replace(answer, headers=(*answer.headers, ("allow", _METHODS)))
    return answer


def head_too_late() -> bytes:
    return wire(error_response(408, "request head timeout"), close=True)


def too_many_connections() -> bytes:
    return wire(error_response(503, "too many connections"), close=True)


def socks_port(http_address: str | None) -> bytes:
    """For a client that speaks HTTP to the SOCKS5 port."""
    elsewhere = f"; the HTTP proxy listens on {http_address}" if http_address else ""
    return wire(error_response(400, f"this port speaks SOCKS5, not HTTP{elsewhere}"), close=True)


def dial_failed(verdict: Allowed, reason: str, *, close: bool) -> bytes:
    return wire(error_response(502, f"{UPSTREAM_FAILURE}: {reason}", verdict.request_id), close=close)


def failed_decision(request: NetworkPolicyRequest) -> Blocked:
    """What stands in for a decision that could not be made: a block without further reason (spec A4.8)."""
    ruling = Ruling(Decision.DENY, BlockReason.POLICY_DENIED, DecisionSource.BASELINE_POLICY, PolicyScope.DOMAIN)
    return Blocked(secrets.token_hex(8), request, (ruling,))
