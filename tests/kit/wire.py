"""HTTP/1.1 as bytes: strict enough to see what was really sent, small enough to trust."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import Any

Fields = tuple[tuple[str, str], ...]
HEAD_END = b"\r\n\r\n"


class Ended(EOFError):
    """The peer closed before the message was complete; `partial` is what arrived."""

    def __init__(self, partial: bytes) -> None:
        super().__init__(f"connection closed after {partial[-200:]!r}")
        self.partial = partial


class Stream:
    """Buffered reading from a blocking socket. Raises `Ended` at an early end, `TimeoutError` when nothing comes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def _fill(self) -> bool:
        data = self.sock.recv(1 << 18)
        self.buffer += data
        return bool(data)

    def _take(self, count: int) -> bytes:
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def until(self, mark: bytes, limit: int = 1 << 24) -> bytes:
        """Everything up to and including `mark`."""
        while (at := self.buffer.find(mark)) < 0:
            if len(self.buffer) > limit or not self._fill():
                raise Ended(self.buffer)
        return self._take(at + len(mark))

    def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            if not self._fill():
                raise Ended(self.buffer)
        return self._take(count)

    def some(self) -> bytes:
        """At least one byte, or nothing at the end."""
        if not self.buffer:
            self._fill()
        return self._take(len(self.buffer))

    def rest(self) -> bytes:
        while self._fill():
            pass
        return self._take(len(self.buffer))

    def skip(self, count: int) -> int:
        """Reads and forgets `count` bytes; returns how many came before the end."""
        left = count
        while left:
            data = self._take(left) or self.sock.recv(min(left, 1 << 20))
            if not data:
                break
            left -= len(data)
        return count - left

    def ended(self) -> bool:
        """True when the peer has closed or reset and nothing is left to read; waits for the socket's time-out."""
        try:
            return not self.buffer and not self._fill()
        except ConnectionError:
            return True


@dataclass(frozen=True, slots=True)
class Head:
    """The start line and the fields, as sent."""

    start: str
    fields: Fields
    raw: bytes = field(repr=False, default=b"")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return ", ".join(values) if values else None


def parse_head(raw: bytes) -> Head:
    start, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    split = (line.partition(":") for line in lines if line)
    return Head(start, tuple((name, value.strip()) for name, _, value in split), raw)


def read_head(stream: Stream) -> Head:
    return parse_head(stream.until(HEAD_END))


def read_chunks(stream: Stream) -> tuple[bytes, Fields]:
    """A chunked body and its trailers."""
    body = b""
    while size := int(stream.until(b"\r\n").partition(b";")[0], 16):
        body += stream.exactly(size + 2)[:-2]
    trailers = b""
    while (line := stream.until(b"\r\n")) != b"\r\n":
        trailers += line
    return body, parse_head(b"\r\n" + trailers).fields


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. `interim` lists the 1xx answers that came before it."""

    status: int
    phrase: str
    head: Head
    body: bytes = b""
    trailers: Fields = ()
    interim: tuple[int, ...] = ()

    def get(self, name: str) -> str | None:
        return self.head.get(name)

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def read_response(stream: Stream, method: str = "GET") -> Response:
    """The next final answer on the connection, with its body as RFC 9112 section 6.3 frames it."""
    interim: list[int] = []
    while True:
        head = read_head(stream)
        status, phrase = _status(head.start)
        if status >= 200 or status == 101:
            break
        interim.append(status)
    body, trailers = _body(stream, head, status, method)
    return Response(status, phrase, head, body, trailers, tuple(interim))


def _status(line: str) -> tuple[int, str]:
    version, _, rest = line.partition(" ")
    assert version in ("HTTP/1.1", "HTTP/1.0"), line
    code, _, phrase = rest.partition(" ")
    assert len(code) == 3, line
    return int(code), phrase


def _body(stream: Stream, head: Head, status: int, method: str) -> tuple[bytes, Fields]:
    if method == "HEAD" or status in (101, 204, 304) or (method == "CONNECT" and status == 200):
        return b"", ()
    if (coding := head.get("transfer-encoding")) is not None:
        assert coding == "chunked", head
        return read_chunks(stream)
    if (length := head.get("content-length")) is not None:
        return stream.exactly(int(length)), ()
    return stream.rest(), ()
