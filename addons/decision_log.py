"""The log lines of decisions (spec B4.10): who, which host, why. Never a path, a query or a header."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii
from typing import assert_never

from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.deciding import QUEUE_FULL
from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    BlockReason,
    HttpUse,
    NetworkPolicyRequest,
    NetworkProtocol,
    Unavailable,
    Unresolved,
    Verdict,
)
from codex_network_proxy.policy.responses import is_disabled
from codex_network_proxy.policy.text import printable
from codex_network_proxy.socks.datagrams import Dropped

from .http_head import BadHead, HostMismatch

logger = logging.getLogger("codex_network_proxy")

READING_METHODS = "GET, HEAD, OPTIONS"
VIOLATION = "CODEX_NETWORK_POLICY_VIOLATION"

_PLAIN = re.compile(r"[A-Za-z0-9._:*/@%\[\]-]+")


def log_verdict(verdict: Verdict, mode: str) -> None:
    """One line per verdict, with its request id: refusals at INFO, what passes at DEBUG.

    `mode` is the one in force. Text from the wire cannot end the line, colour it or add a field to it.
    """
    level = logging.DEBUG if isinstance(verdict, Allowed) or _is_flood(verdict) else logging.INFO
    if not logger.isEnabledFor(level):
        return
    line = _line(verdict, mode)
    logger.log(level, "%s", line)


def _is_flood(verdict: Verdict) -> bool:
    """Blocks that come in hundreds while somebody is asked, who would lose sight of the questions."""
    return isinstance(verdict, Blocked) and verdict.reason == QUEUE_FULL


def log_violation(entry: BlockedRequest) -> None:
    """The entry of the blocked-request buffer, for programs that read the log (spec B11.2)."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s %s", VIOLATION, entry.json_line())


def log_bad_head(error: BadHead, client: str | None) -> None:
    """A refused head, where the refusal says more than that it was malformed: a mismatched Host (spec B4.6)."""
    if isinstance(error, HostMismatch):
        log_host_mismatch(client, str(error.target), error.host_header, "mismatch")


def log_host_mismatch(client: str | None, target: str, host_header: str, reason: str) -> None:
    """A `Host` header that does not name the request's target (spec B4.6)."""
    fields = _fields(client=client or "unknown", target=target, host_header=host_header, reason=reason)
    logger.info("request rejected due to mismatched Host header (%s)", fields)


def log_socks_refusal(client: str, reason: str) -> None:
    """A SOCKS client that was refused before any policy; the reply itself does not say why."""
    logger.info("SOCKS request rejected (%s)", _fields(client=client, reason=reason))


def log_association(client: str, dropped: Mapping[Dropped, int]) -> None:
    """A UDP association has ended; how many of its datagrams went nowhere, by reason."""
    lost = "; ".join(f"{count} {why}" for why, count in dropped.items()) or "none"
    logger.debug("SOCKS UDP association closed (%s)", _fields(client=client, dropped=lost))


def log_upstream_failure(request: NetworkPolicyRequest, request_id: str, message: str) -> None:
    """A request or tunnel that passed, and whose server could not be reached."""
    fields = _fields(**_who(request), request_id=request_id)
    logger.info("upstream request failed: %s (%s)", printable(message), fields)


def _line(verdict: Verdict, mode: str) -> str:
    subject, who = _subject(verdict.request), _who(verdict.request)
    match verdict:
        case Allowed():
            return _allowed(verdict, subject, mode)
        case Blocked():
            return _blocked(verdict, subject, mode)
        case Unresolved():
            return f"{subject} failed; could not resolve ({_fields(**who, request_id=verdict.request_id)})"
        case Unavailable():
            return f"{subject} failed; {verdict.outage} ({_fields(**who, request_id=verdict.request_id)})"
        case _:
            assert_never(verdict)


def _allowed(verdict: Allowed, subject: str, mode: str) -> str:
    request = verdict.request
    if verdict.inspect and not isinstance(request.use, HttpUse):
        return f"{subject} MITM enabled ({_fields(**_who(request), mode=mode, request_id=verdict.request_id)})"
    return f"{subject} allowed ({_fields(**_who(request), request_id=verdict.request_id)})"


def _blocked(verdict: Blocked, subject: str, mode: str) -> str:
    said, fields = "blocked", _who(verdict.request)
    if is_disabled(verdict):
        said = "blocked; proxy disabled"
    elif verdict.reason == BlockReason.MITM_REQUIRED:
        said = "blocked; MITM required to enforce HTTPS policy"
        fields["mode"] = mode
    elif verdict.reason == BlockReason.METHOD_NOT_ALLOWED:
        said = "blocked by method policy"
        fields |= {"mode": mode, "allowed_methods": READING_METHODS}
    else:
        fields["reason"] = verdict.reason
    if verdict.ruling.rule is not None:
        fields["rule"] = verdict.ruling.rule
    return f"{subject} {said} ({_fields(**fields, request_id=verdict.request_id)})"


def _subject(request: NetworkPolicyRequest) -> str:
    """What the line is about: a request that was read, the socket it named, or the tunnel it asked for."""
    if request.socket_path is not None:
        return "unix socket"
    if isinstance(request.use, HttpUse):
        return "request"
    match request.protocol:
        case NetworkProtocol.HTTP:
            return "request"
        case NetworkProtocol.HTTPS_CONNECT:
            return "CONNECT"
        case NetworkProtocol.SOCKS5_TCP:
            return "SOCKS"
        case NetworkProtocol.SOCKS5_UDP:
            return "SOCKS UDP"
        case _:
            assert_never(request.protocol)


def _who(request: NetworkPolicyRequest) -> dict[str, str]:
    who = {"client": request.client_address or "unknown"}
    if request.socket_path is not None:
        who["path"] = request.socket_path  # of a file, not of a URL
    else:
        who |= {"host": request.host, "port": str(request.port)}
    if isinstance(request.use, HttpUse):
        who["method"] = request.method or request.use.method
    return who


def _fields(**fields: str) -> str:
    return ", ".join(f"{name}={_value(text)}" for name, text in fields.items())


def _value(text: str) -> str:
    """As it is when nothing in it can be mistaken for the line's own marks; else quoted and escaped."""
    if text == READING_METHODS or (len(text) <= 256 and _PLAIN.fullmatch(text)):
        return text
    return encode_basestring_ascii(printable(text))
