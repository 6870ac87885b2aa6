"""Strict reading of a request head and of where it goes, shared by door and engine (RFC 9112, spec A2, B4.2, B4.6).

What two parsers could read in two ways is refused: nobody behind the proxy may see another request than the policy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.hosts import Endpoint, parse_endpoint

HEAD_LIMIT = 64 * 1024
"""Bytes of a request head, with the empty line that ends it."""

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_OTHER_VERSION = re.compile(rf"{_NAME} [!-~]+ HTTP/(?!1\.[01]\Z)[0-9](\.[0-9])?")
_REQUEST_LINE = re.compile(rf"({_NAME}) ([!-~\x80-\xff]+) (HTTP/1\.[01])")
# No control character but the tab; so no bare CR or LF, no NUL, no folded line, no space before the colon.
_FIELD_LINES = re.compile(rf"(?:{_NAME}:[\t -~\x80-\xff]*\r\n)*")
_LENGTH = re.compile(r"[0-9]{1,18}")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_CODINGS_BEFORE_CHUNKED = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress"})
_LENGTHS = frozenset({"content-length", "transfer-encoding"})

_REMEMBERED_LENGTH = 1024

CONNECT_PORT = 80
"""Where a CONNECT without a port goes, as with the reference (spec B4.2)."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)")
_UNIX_SOCKET = "x-unix-socket"


class BadHead(ValueError):
    """A request head that is refused: `status` and `message` are the whole answer; the connection must close."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class HostMismatch(BadHead):
    """The Host header names another host than the target. Both stand here for the log, not in the answer."""

    def __init__(self, target: Endpoint, host_header: str) -> None:
        super().__init__(400, "Host header does not match request target")
        self.target = target
        self.host_header = host_header


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request head that can be read in one way only. Text is the wire's bytes as latin-1; `length` is in bytes."""

    method: str
    target: str = field(repr=False)
    version: str
    fields: tuple[tuple[str, str], ...] = field(repr=False)
    length: int
    _index: dict[str, list[str]] = field(repr=False, compare=False)

    def values(self, name: str) -> Sequence[str]:
        """Every value of a field, in order, without the whitespace around it. `name` is lower case."""
        return self._index.get(name, ())

    @property
    def has_body(self) -> bool:
        """Whether a body is announced."""
        return bool(self.values("transfer-encoding")) or any(int(value) for value in self.values("content-length"))

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may follow on the connection (RFC 9112 section 9.3)."""
        options = ",".join((*self.values("connection"), *self.values("proxy-connection")))
        return self.version == "HTTP/1.1" and "close" not in map(str.strip, options.lower().split(","))


@dataclass(frozen=True, slots=True)
class PlainTarget:
    """Where a plain request goes. `path` holds the query too, and is `*` for a server-wide OPTIONS."""

    scheme: str
    endpoint: Endpoint
    path: str = field(repr=False)


def find_head_end(raw: bytes | bytearray, start: int = 0) -> int | None:
    """Where the first byte after the head stands; `None` while the head is incomplete.

    `start`: bytes that were searched before, in vain.
    """
    end = raw.find(b"\r\n\r\n", max(0, start - 3))
    return None if end < 0 else end + 4


def check_incomplete(raw: bytes | bytearray, start: int = 0) -> None:
    """Raises `BadHead` when `raw`, whose end has not come yet, can no longer become a good head."""
    if len(raw) > HEAD_LIMIT:
        raise BadHead(431, "request head too large")
    if raw and not (0x21 <= raw[0] < 0x7F or raw[0] == 0x0D):
        # A TLS or SOCKS greeting, or noise.
        raise BadHead(400, "this port speaks HTTP/1.1 only")
    if _BARE_LINE_FEED.search(raw, max(0, start - 1)):
        raise BadHead(400, "malformed request head")


def parse_head(raw: bytes) -> RequestHead:
    """Reads a complete head, up to and including its empty line. Raises `BadHead`."""
    if len(raw) > HEAD_LIMIT:
        raise BadHead(431, "request head too large")
    first, _, rest = raw.decode("latin-1").partition("\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise BadHead(400, "unsupported HTTP version" if _OTHER_VERSION.fullmatch(first) else "malformed request line")
    block = rest[:-2]
    if not rest.endswith("\r\n") or not _FIELD_LINES.fullmatch(block):
        raise BadHead(400, "malformed header field")
    fields = []
    index: dict[str, list[str]] = {}
    for text in block.split("\r\n")[:-1]:
        name, _, value = text.partition(":")
        key = name.lower()
        if key in _LENGTHS and value[-1:] in " \t":  # `5 ` is a number to some readers only
            raise BadHead(400, f"invalid {key}")
        value = value.strip(" \t")
        fields.append((name, value))
        index.setdefault(key, []).append(value)
    method, target, version = line.groups()
    head = RequestHead(method, target, version, tuple(fields), len(raw), index)
    _check_framing(head)
    return head


def _check_framing(head: RequestHead) -> None:
    """One host and one length, or none: where a request ends must not be a matter of taste (RFC 9112 section 6)."""
    if head.method == "TRACE":
        raise BadHead(405, "TRACE is not supported")
    lengths, codings = head.values("content-length"), head.values("transfer-encoding")
    if len(head.values("host")) > 1:
        raise BadHead(400, "invalid Host header")
    if lengths and codings:
        raise BadHead(400, "both content-length and transfer-encoding")
    if lengths and (len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0])):
        raise BadHead(400, "invalid content-length")
    if codings and (len(codings) > 1 or head.version == "HTTP/1.0" or not _ends_chunked(codings[0])):
        raise BadHead(400, "invalid transfer-encoding")


def _ends_chunked(value: str) -> bool:
    *before, last = (coding.strip(" \t").lower() for coding in value.split(","))
    return last == "chunked" and all(coding in _CODINGS_BEFORE_CHUNKED for coding in before)


def check_request_head(raw: bytes) -> RequestHead:
    """Everything that must hold for a request before the policy sees it, on any door. Raises `BadHead`."""
    head = parse_head(raw)
    if head.method == "CONNECT":
        connect_target(head)
    elif head.values(_UNIX_SOCKET):
        socket_target(head)
    else:
        plain_target(head)
    return head


def connect_request(raw: bytes) -> tuple[RequestHead, Endpoint]:
    """`parse_head` and `connect_target` in one, and fast for a head that was read before. Raises `BadHead`."""
    return _remembered_connect(raw) if len(raw) <= _REMEMBERED_LENGTH else _read_connect(raw)


def _read_connect(raw: bytes) -> tuple[RequestHead, Endpoint]:
    head = parse_head(raw)
    return head, connect_target(head)


# A program repeats its CONNECT heads to the byte.
_remembered_connect = lru_cache(maxsize=512)(_read_connect)


def connect_target(head: RequestHead) -> Endpoint:
    """The host and port that a CONNECT names; without a port, 80. Raises `BadHead`.

    Its Host header is not compared: it goes nowhere, and some clients name the proxy there (spec B4.2).
    """
    if head.has_body:
        # What follows would be the body to one reader and the tunnel to another.
        raise BadHead(400, "CONNECT must not have a body")
    target = head.target
    if any(char in target for char in "/?#@*"):
        raise BadHead(400, "missing authority")
    return _endpoint(target, CONNECT_PORT, "invalid host")


def plain_target(head: RequestHead) -> PlainTarget:
    """Where any other request goes, from its absolute target or else its Host header. Raises `BadHead`."""
    target = head.target
    if target.startswith("/"):
        return _by_host_header(head, target)
    if target == "*":
        if head.method != "OPTIONS":
            raise BadHead(400, "invalid request target")
        return _by_host_header(head, target)
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadHead(400, "invalid request target")
    return _by_absolute_target(head, absolute[1].lower(), absolute[2], absolute[3])


def socket_target(head: RequestHead) -> str:
    """Path and query of a request for a unix socket, which no host is looked for in (spec B4.4). Raises `BadHead`."""
    target = head.target
    if (absolute := _ABSOLUTE.fullmatch(target)) and absolute[1].lower() in DEFAULT_PORTS:
        target = absolute[3] if absolute[3].startswith("/") else f"/{absolute[3]}"
    if "#" in target or not (target.startswith("/") or (target == "*" and head.method == "OPTIONS")):
        raise BadHead(400, "invalid request target")
    return target


def _by_host_header(head: RequestHead, path: str) -> PlainTarget:
    if "#" in path:
        raise BadHead(400, "invalid request target")
    host = _host_header(head)
    if not host:
        raise BadHead(400, "missing host")
    return PlainTarget("http", _endpoint(host, DEFAULT_PORTS["http"], "invalid Host header"), path)


def _by_absolute_target(head: RequestHead, scheme: str, authority: str, path: str) -> PlainTarget:
    default_port = DEFAULT_PORTS.get(scheme)
    if default_port is None:
        raise BadHead(400, "unsupported scheme")
    if not authority:
        raise BadHead(400, "missing host")
    endpoint = _endpoint(authority, default_port, "invalid host")
    _check_host_header(head, endpoint, default_port)
    return PlainTarget(scheme, endpoint, path if path.startswith("/") else f"/{path}")


def _check_host_header(head: RequestHead, target: Endpoint, default_port: int) -> None:
    """The agreement of spec B4.6."""
    host = _host_header(head)
    if host is None:
        return
    if _endpoint(host, default_port, "invalid Host header") != target:
        raise HostMismatch(target, host)


def _host_header(head: RequestHead) -> str | None:
    return next(iter(head.values("host")), None)


def _endpoint(text: str, default_port: int | None, refusal: str) -> Endpoint:
    """The canonical endpoint of an authority as it came over the wire. User-info is not part of our grammar."""
    try:
        return parse_endpoint(text if text.isascii() else text.encode("latin-1").decode("utf-8"), default_port)
    except (InvalidHost, UnicodeDecodeError) as error:
        raise BadHead(400, refusal) from error
