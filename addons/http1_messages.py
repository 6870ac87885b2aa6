"""HTTP/1 messages: one strict reading for each head, and where each body ends (RFC 9112)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from h11._readers import ContentLengthReader, Http10Reader
from mitmproxy import http
from mitmproxy.net.http import status_codes
from mitmproxy.net.http.http1 import expected_http_body_size

from codex_network_proxy.policy.hosts import Endpoint
from codex_network_proxy.policy.unix_sockets import UNIX_SOCKET

from .chunks import ChunkReader
from .flow_requests import MISMATCH, UNIX_SOCKET_HEADER
from .http_head import BadHead, RequestHead, connect_target, parse_head, plain_target, socket_target
from .upstream_forward import ProxyHop

Field = tuple[bytes, bytes]

CHUNKED = (b"transfer-encoding", b"chunked")
NO_CONTENT = frozenset((204, 304))
"""Final statuses whose answers have no body, whatever their fields say."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: ([\t -~\x80-\xff]*))?")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")


class Framing(Enum):
    """How a body is written: not at all, as it is, or in chunks."""

    NONE = "none"
    RAW = "raw"
    CHUNKED = "chunked"

    def wire(self, data: bytes) -> bytes:
        """The bytes that carry this piece of the body."""
        match self:
            case Framing.NONE:
                return b""
            case Framing.RAW:
                return data
            case Framing.CHUNKED:
                return b"%x\r\n%b\r\n" % (len(data), data) if data else b""

    @property
    def end(self) -> bytes:
        return b"0\r\n\r\n" if self is Framing.CHUNKED else b""


class ExactRequest(http.Request):
    """Shows the method as it was sent. The engine's own takes `connect` for CONNECT, which it is not (spec B4.3)."""

    @property
    def method(self) -> str:
        return self.data.method.decode("latin-1")

    @method.setter
    def method(self, value: str | bytes) -> None:
        self.data.method = value.encode("latin-1") if isinstance(value, str) else value


def read_request(raw: bytes, *, inner: bool) -> http.Request:
    """The request of a complete head. `inner`: it came through an intercepted tunnel. Raises `BadHead`."""
    head = parse_head(raw)
    if head.method.upper() == "TRACE":
        raise BadHead(405, "TRACE is not supported")
    if head.method == "CONNECT":
        return _read_connect(head, inner)
    if inner:
        return _read_inner(head)
    if head.values(UNIX_SOCKET_HEADER):
        # Such a request names a socket; where its Host header points to does not matter (spec B4.4).
        return _request(head, "http", UNIX_SOCKET, socket_target(head))
    target = plain_target(head)
    return _request(head, target.scheme, target.endpoint, target.path)


def _read_connect(head: RequestHead, inner: bool) -> http.Request:
    if inner:
        raise BadHead(405, "CONNECT not supported inside MITM")
    return _request(head, "", connect_target(head), "", authority=head.target)


def _read_inner(head: RequestHead) -> http.Request:
    """A request inside a tunnel; whether what it says of its host agrees with the tunnel is judged with the policy."""
    if head.version == "HTTP/1.1" and not head.values("host"):
        raise BadHead(400, "missing host")
    target = head.target
    if target.startswith("/") or (target == "*" and head.method == "OPTIONS"):
        if "#" in target:
            raise BadHead(400, "invalid request target")
        return _request(head, "https", None, target)
    try:
        absolute = plain_target(head)
    except BadHead:
        raise BadHead(400, MISMATCH) from None
    if absolute.scheme != "https":
        raise BadHead(400, MISMATCH)
    return _request(head, "https", None, absolute.path, authority=str(absolute.endpoint))


def _request(
    head: RequestHead, scheme: str, target: Endpoint | None, path: str, *, authority: str = ""
) -> http.Request:
    now = time.time()
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.fields]
    return ExactRequest(
        target.host.text if target else "",
        target.port if target else 0,
        head.method.encode("latin-1"),
        scheme.encode("latin-1"),
        authority.encode("latin-1"),
        path.encode("latin-1"),
        head.version.encode("latin-1"),
        http.Headers(fields),
        None,
        None,
        now,
        None,
    )


def read_response(lines: Sequence[bytes]) -> http.Response:
    """The response of a complete head. Raises `ValueError`, whose text holds nothing that the origin wrote."""
    line = _STATUS_LINE.fullmatch(lines[0]) if lines else None
    if line is None:
        raise ValueError("malformed status line")
    now = time.time()
    return http.Response(
        b"HTTP/1." + line[1], int(line[2]), line[3] or b"", http.Headers(_fields(lines[1:])), None, None, now, None
    )


def _fields(lines: Iterable[bytes]) -> list[Field]:
    fields: list[Field] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and fields:
            # A folded line; a proxy may read it as one (RFC 9112 section 5.2).
            name, value = fields.pop()
            value = b"%b %b" % (value, line.strip(b" \t"))
        else:
            name, colon, value = line.partition(b":")
            value = value.strip(b" \t")
            if not colon or not _NAME.fullmatch(name):
                raise ValueError("malformed header field")
        if not _VALUE.fullmatch(value):
            raise ValueError("malformed header field")
        fields.append((name, value))
    return fields


def request_size(request: http.Request) -> int | None:
    """Bytes of the body that follows; `None` for chunks. The head has passed `read_request`."""
    if "transfer-encoding" in request.headers:
        return None
    return int(request.headers.get("content-length", "0"))


def response_size(request: http.Request, response: http.Response) -> int | None:
    """Bytes of the body that follows; `None` for chunks, -1 for all until the end. Raises `ValueError`."""
    size = expected_http_body_size(request, response)
    assert size is None or isinstance(size, int)
    return size


def body_reader(size: int | None) -> Any:
    """What reads a body of this size: `None` for chunks, -1 for all until the end."""
    match size:
        case None:
            return ChunkReader()
        case -1:
            return Http10Reader()
        case _:
            return ContentLengthReader(size)


def wants_close(version: bytes, headers: http.Headers) -> bool:
    """Whether the sender ends the connection after this message (RFC 9112 section 9.3).

    HTTP/1.0 with `keep-alive` is not kept alive: nobody needs it, and who gets it wrong waits for ever.
    """
    return version == b"HTTP/1.0" or says(headers, "close")


def says(headers: http.Headers, option: str) -> bool:
    """Whether `connection` names this option, which is in lower case."""
    return option in (token.strip().lower() for value in headers.get_all("connection") for token in value.split(","))


@dataclass(frozen=True, slots=True)
class WireHead:
    """A head as it is sent, and how its body must be written. `ends`: the body ends with the connection."""

    data: bytes
    framing: Framing
    ends: bool = False


def opens_pipe(request: http.Request, response: http.Response) -> bool:
    """Whether the connection turns into a pipe after this answer."""
    accepted = request.data.method == b"CONNECT" and 200 <= response.status_code <= 299
    return accepted or response.status_code == 101


def response_head(request: http.Request, response: http.Response, *, end_stream: bool, close: bool) -> WireHead:
    """The answer's head for an HTTP/1 client, in our own version, with a body that it can tell the end of."""
    if opens_pipe(request, response):
        return WireHead(_head(_status_line(response), response.headers.fields), Framing.RAW)
    fields = [field for field in response.headers.fields if field[0].lower() != b"connection"]
    fields, framing, ends = _frame_response(request, response, fields, end_stream)
    if close or ends:
        fields.append((b"connection", b"close"))
    return WireHead(_head(_status_line(response), fields), framing, ends)


def _frame_response(
    request: http.Request, response: http.Response, fields: list[Field], end_stream: bool
) -> tuple[list[Field], Framing, bool]:
    names = {name.lower() for name, _ in fields}
    empty = request.data.method == b"HEAD" or response.status_code in NO_CONTENT or response.status_code < 200
    if empty:
        return fields, Framing.NONE, False
    if b"content-length" in names:
        return fields, Framing.RAW, False
    chunks = b"chunked" in response.headers.get("transfer-encoding", "").lower().encode("latin-1", "replace")
    if request.data.http_version == b"HTTP/1.0":
        # It cannot read chunks: the body ends with the connection.
        return [field for field in fields if field[0].lower() != b"transfer-encoding"], Framing.RAW, True
    if chunks:
        return fields, Framing.CHUNKED, False
    if end_stream:
        return [*fields, (b"content-length", b"0")], Framing.RAW, False
    if b"transfer-encoding" in names:
        return fields, Framing.RAW, True
    return [*fields, CHUNKED], Framing.CHUNKED, False


def request_head(request: http.Request, *, end_stream: bool, hop: ProxyHop | None = None) -> WireHead:
    """The request's head for an HTTP/1 origin, or for the upstream proxy of `hop`.

    A body whose length nobody announced is sent in chunks: without that the origin would take it for the next request,
    one that no policy has seen.
    """
    http2 = request.is_http2
    fields = _as_http1(request) if http2 else list(request.headers.fields)
    names = {name.lower() for name, _ in fields}
    framing = Framing.NONE if end_stream else Framing.RAW
    if b"transfer-encoding" in names:
        framing = Framing.CHUNKED
    elif b"content-length" not in names:
        if not end_stream:
            fields.append(CHUNKED)
            framing = Framing.CHUNKED
        elif request.data.method in (b"POST", b"PUT", b"PATCH"):
            fields.append((b"content-length", b"0"))
    version = b"HTTP/1.1" if http2 else request.data.http_version
    target = request.data.path
    if hop is not None:
        target, fields = hop.target(target), [*fields, *hop.fields]
    return WireHead(_head(b"%b %b %b" % (request.data.method, target, version), fields), framing)


def _as_http1(request: http.Request) -> list[Field]:
    """HTTP/2 names the host apart, splits cookies, and has a `te` that means nothing here (RFC 9113 section 8)."""
    fields = [field for field in request.headers.fields if field[0] not in (b"host", b"cookie", b"te")]
    host = request.data.authority or request.headers.get("host", "").encode("latin-1")
    fields.insert(0, (b"host", host))
    cookies = [value for name, value in request.headers.fields if name == b"cookie"]
    return [*fields, (b"cookie", b"; ".join(cookies))] if cookies else fields


def _status_line(response: http.Response) -> bytes:
    reason = response.data.reason or status_codes.RESPONSES.get(response.status_code, "").encode()
    return b"HTTP/1.1 %d %b" % (response.status_code, reason)


def _head(first: bytes, fields: Iterable[Field]) -> bytes:
    return b"".join((first, b"\r\n", *(b"%b: %b\r\n" % field for field in fields), b"\r\n"))
