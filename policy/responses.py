"""What a blocked client sees: status, code and one sentence. Never a rule, a path or a secret (spec A5, B4.7)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

from .decision import Blocked, BlockReason, DecisionSource, Unavailable, Unresolved
from .text import printable

Refusal = Blocked | Unresolved | Unavailable

REASON_LIMIT = 1024
"""Characters of a decider's own words that the JSON body holds."""

_TEXT = "text/plain"
_JSON = "application/json"
_DISABLED_PHRASE = f"Blocked by network policy ({BlockReason.PROXY_DISABLED})"
_GENERAL_MESSAGE = "Codex blocked this request by network policy."

_ID_HEADER = "x-proxy-request-id"
_CODE_HEADER = "x-proxy-error"


@dataclass(frozen=True, slots=True)
class BlockResponse:
    """A complete answer. The header names are lower case, so that they do for HTTP/2 as well."""

    status: int
    reason_phrase: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Words:
    """What the answer says of one reason. Without a code there is no `x-proxy-error`."""

    status: int
    code: str | None
    phrase: str
    message: str


def _blocked(code: str, message: str) -> _Words:
    # The phrase is all that requests, httpx, urllib and wget show of a refused CONNECT.
    return _Words(403, code, f"Blocked by network policy ({code})", message)


_WORDS: dict[str, _Words] = {
    BlockReason.NOT_ALLOWED: _blocked(
        "blocked-by-allowlist",
        "Codex blocked this request: domain not in allowlist (this is not a denylist block).",
    ),
    BlockReason.NOT_ALLOWED_LOCAL: _blocked(
        "blocked-by-allowlist", "Codex blocked this request: local/private addresses not allowed."
    ),
    BlockReason.DENIED: _blocked("blocked-by-denylist", "Codex blocked this request: domain denied by policy."),
    BlockReason.METHOD_NOT_ALLOWED: _blocked(
        "blocked-by-method-policy", "Codex blocked this request: method not allowed in limited mode."
    ),
    BlockReason.MITM_HOOK_DENIED: _blocked(
        "blocked-by-mitm-hook", "Codex blocked this request: MITM hook policy denied the HTTPS request."
    ),
    BlockReason.MITM_REQUIRED: _blocked(
        "blocked-by-mitm-required", "Codex blocked this request: MITM required to enforce HTTPS policy."
    ),
}
_ANY_OTHER = _blocked("blocked-by-policy", _GENERAL_MESSAGE)
_DISABLED = _Words(503, None, _DISABLED_PHRASE, _GENERAL_MESSAGE)


def _words(verdict: Blocked) -> _Words:
    """By the reason's text, also when a decider said it; only the proxy itself can say that it is disabled."""
    if is_disabled(verdict):
        return _DISABLED
    # A decider's own words miss the table, and so never reach a header.
    return _WORDS.get(verdict.reason, _ANY_OTHER)


def is_disabled(verdict: Blocked) -> bool:
    """Whether the proxy is switched off, which a decider cannot claim (spec B4.5)."""
    ruling = verdict.ruling
    return ruling.reason == BlockReason.PROXY_DISABLED and ruling.source is DecisionSource.PROXY_STATE


def error_code(verdict: Blocked) -> str | None:
    """The `x-proxy-error` of a block, such as `blocked-by-allowlist`; `None` while the proxy is disabled."""
    return _words(verdict).code


def block_message(verdict: Blocked) -> str:
    """The one sentence a person sees of a block."""
    return _words(verdict).message


def connect_response(verdict: Refusal) -> BlockResponse:
    """The answer to a refused CONNECT: `text/plain`, the sentence only."""
    if not isinstance(verdict, Blocked):
        return _failure(verdict)
    words = _words(verdict)
    return _answer(words, verdict.request_id, _TEXT, words.message.encode("ascii"))


def inner_response(verdict: Refusal) -> BlockResponse:
    """The answer to a refused request inside an intercepted tunnel: as for CONNECT (spec B4.7)."""
    return connect_response(verdict)


def plain_response(verdict: Refusal) -> BlockResponse:
    """The answer to a refused plain request: compact JSON that names host, reason and who decided."""
    if not isinstance(verdict, Blocked):
        return _failure(verdict)
    words = _words(verdict)
    if words is _DISABLED:
        return connect_response(verdict)
    return _answer(words, verdict.request_id, _JSON, _json_body(verdict, words.message))


def socket_response(verdict: Refusal) -> BlockResponse:
    """The answer to a refused request for a unix socket: the short JSON of spec B4.4, without the path."""
    if not isinstance(verdict, Blocked) or is_disabled(verdict):
        return plain_response(verdict)
    if verdict.reason == BlockReason.UNIX_SOCKET_UNSUPPORTED:
        return error_response(501, "unix sockets unsupported", verdict.request_id)
    fields: dict[str, str | int] = {
        "status": "blocked",
        "host": verdict.request.host,
        "reason": printable(verdict.reason, REASON_LIMIT),
        "request_id": verdict.request_id,
    }
    return _answer(_words(verdict), verdict.request_id, _JSON, _compact(fields))


def error_response(status: int, text: str, request_id: str | None = None) -> BlockResponse:
    """An answer that is no policy block, such as `400` `missing host` or `502` `upstream failure: …`.

    `text` may hold what the client or an upstream sent; it is shown without control characters. That of a `502` is in
    the status line as well: of a refused CONNECT most tools show nothing else.
    """
    shown = printable(text, REASON_LIMIT)
    body, phrase = shown.encode(), HTTPStatus(status).phrase
    if status == HTTPStatus.BAD_GATEWAY and shown.isascii():
        phrase = f"{phrase} ({shown})"
    ids = () if request_id is None else ((_ID_HEADER, request_id),)
    headers = (("content-type", _TEXT), ("content-length", str(len(body))), *ids)
    return BlockResponse(status, phrase, headers, body)


def wire(response: BlockResponse, *, close: bool, head_only: bool = False) -> bytes:
    """The answer as HTTP/1.1 bytes. `close` adds `connection: close`; `head_only` answers a HEAD (no body)."""
    lines = [f"HTTP/1.1 {response.status} {response.reason_phrase}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    if close:
        lines.append("connection: close")
    head = "\r\n".join((*lines, "", "")).encode("latin-1")
    return head if head_only else head + response.body


def connect_refusal(verdict: Refusal, *, close: bool) -> bytes:
    """`wire(connect_response(verdict), close=close)`, but fast: for blocks only the id is new each time."""
    if not isinstance(verdict, Blocked):
        return wire(connect_response(verdict), close=close)
    before, after = _refusal_around_id(_words(verdict), close)
    return before + verdict.request_id.encode("latin-1") + after


@lru_cache(maxsize=64)
def _refusal_around_id(words: _Words, close: bool) -> tuple[bytes, bytes]:
    answer = _answer(words, "\0", _TEXT, words.message.encode("ascii"))
    before, _, after = wire(answer, close=close).partition(b"\0")
    return before, after


def _answer(words: _Words, request_id: str, content_type: str, body: bytes) -> BlockResponse:
    code = () if words.code is None else ((_CODE_HEADER, words.code),)
    headers = (("content-type", content_type), ("content-length", str(len(body))), *code, (_ID_HEADER, request_id))
    return BlockResponse(words.status, words.phrase, headers, body)


def _failure(verdict: Unresolved | Unavailable) -> BlockResponse:
    if isinstance(verdict, Unavailable):
        return error_response(500, "error", verdict.request_id)
    return error_response(502, f"upstream failure: could not resolve {verdict.request.host}", verdict.request_id)


def _json_body(verdict: Blocked, message: str) -> bytes:
    ruling, request = verdict.ruling, verdict.request
    fields: dict[str, str | int] = {
        "status": "blocked",
        "host": request.host,
        "reason": printable(ruling.reason, REASON_LIMIT),
        "decision": ruling.decision,
        "source": ruling.source,
        "protocol": request.protocol,
        "port": request.port,
        "message": message,
        "request_id": verdict.request_id,
    }
    return _compact(fields)


def _compact(fields: dict[str, str | int]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii")
