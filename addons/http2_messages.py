"""HTTP/2 request heads: read strictly, each stream for itself (RFC 9113 section 8)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from mitmproxy import http

from .flow_requests import MISMATCH
from .http_head import BadHead

CONNECTION_SPECIFIC = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))

_PSEUDO = (b":method", b":scheme", b":path", b":authority")
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_PATH = re.compile(rb"/[!\"$-~\x80-\xff]*")
_AUTHORITY = re.compile(rb"[!-~]+")
_LENGTH = re.compile(rb"[0-9]{1,18}")

MALFORMED = "malformed request head"


def read_request(fields: Iterable[tuple[bytes, bytes]], *, ended: bool) -> http.Request:
    """The request of a head inside an intercepted tunnel; `ended`: no body follows. Raises `BadHead`."""
    pseudo, rest = _split(fields)
    method = pseudo.get(b":method", b"")
    if method == b"CONNECT":
        raise BadHead(405, "CONNECT not supported inside MITM")
    if method.upper() == b"TRACE":
        raise BadHead(405, "TRACE is not supported")
    if not _METHOD.fullmatch(method) or not pseudo.keys() <= set(_PSEUDO):
        raise BadHead(400, MALFORMED)
    if pseudo.get(b":scheme") != b"https":
        raise BadHead(400, MISMATCH)
    path = pseudo.get(b":path", b"")
    if not (_PATH.fullmatch(path) or (path == b"*" and method == b"OPTIONS")):
        raise BadHead(400, "invalid request target")
    _check_fields(rest)
    _check_length([value for name, value in rest if name == b"content-length"], ended)
    if b":authority" not in pseudo and all(name != b"host" for name, _ in rest):
        raise BadHead(400, "missing host")
    return _request(method, pseudo.get(b":authority"), path, rest)


def _split(fields: Iterable[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], list[tuple[bytes, bytes]]]:
    pseudo: dict[bytes, bytes] = {}
    rest: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if not name.startswith(b":"):
            rest.append((bytes(name), bytes(value)))
        elif rest or name in pseudo:
            raise BadHead(400, MALFORMED)
        else:
            pseudo[bytes(name)] = bytes(value)
    return pseudo, rest


def _check_fields(fields: list[tuple[bytes, bytes]]) -> None:
    for name, value in fields:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name in CONNECTION_SPECIFIC:
            raise BadHead(400, MALFORMED)
        if name == b"te" and value.lower() != b"trailers":
            raise BadHead(400, MALFORMED)
    if sum(name == b"host" for name, _ in fields) > 1:
        raise BadHead(400, MISMATCH)


def _check_length(lengths: list[bytes], ended: bool) -> None:
    if lengths and (len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]) or (ended and int(lengths[0]))):
        raise BadHead(400, "invalid content-length")


def are_good_trailers(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether these may stand behind a body: good fields, and none that says what the message is."""
    try:
        _check_fields([(bytes(name), bytes(value)) for name, value in fields])
    except BadHead:
        return False
    return True


def _request(method: bytes, authority: bytes | None, path: bytes, fields: list[tuple[bytes, bytes]]) -> http.Request:
    if authority is not None and not _AUTHORITY.fullmatch(authority):
        raise BadHead(400, MISMATCH)
    # Host and port are the tunnel's; the engine fills them in.
    return http.Request(
        "",
        0,
        method,
        b"https",
        authority or b"",
        path,
        b"HTTP/2.0",
        http.Headers(fields),
        None,
        None,
        time.time(),
        None,
    )
