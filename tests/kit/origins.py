"""Recording origins: what a test puts at the far end of the proxy."""

from __future__ import annotations

import json
import queue
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from .server import PATIENCE, RecordingStream, Server
from .wire import Fields, Head, parse_head, read_chunks, read_head

CHUNK = bytes(1 << 18)


@dataclass(slots=True)
class Exchange:
    """One request at the origin, and the means to answer it."""

    origin: HttpOrigin
    stream: RecordingStream
    head: Head

    @property
    def method(self) -> str:
        return self.head.start.split(" ")[0]

    @property
    def target(self) -> str:
        return self.head.start.split(" ")[1]

    @property
    def path(self) -> str:
        """The path without query, also of a target in absolute form."""
        target = self.target.partition("?")[0]
        return target if target.startswith("/") else "/" + target.partition("://")[2].partition("/")[2]

    @property
    def query(self) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in self.target.partition("?")[2].split("&") if pair)
        return {key: value for key, _, value in pairs}

    def send(self, data: bytes) -> None:
        self.stream.sock.sendall(data)

    def start(self, status: str, *fields: str) -> None:
        """Sends an answer's head; `x-origin` says who answered."""
        self.send("\r\n".join([f"HTTP/1.1 {status}", f"x-origin: {self.origin.name}", *fields, "", ""]).encode())

    def answer(self, body: bytes, *fields: str, status: str = "200 OK") -> None:
        self.start(status, f"content-length: {len(body)}", *fields)
        if self.method != "HEAD":
            self.send(body)

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def body(self) -> tuple[bytes, Fields]:
        """The request's body and trailers; says `100 Continue` first to a client that waits for it."""
        length, coding = self.head.get("content-length"), self.head.get("transfer-encoding")
        if self.head.get("expect") and (length or coding):
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if coding:
            return read_chunks(self.stream)
        return self.stream.exactly(int(length or 0)), ()


Handler = Callable[[Exchange], None]


class HttpOrigin(Server):
    """An HTTP/1.1 origin. `routes` maps the first path segment to a handler, next to the ones of `ENDPOINTS`.

    `events` feeds `/sse`: each item is one event, `None` ends the stream. `release` lets `/slow` answer.
    """

    def __init__(
        self,
        name: str = "origin",
        routes: Mapping[str, Handler] | None = None,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(host, tls)
        self.name = name
        self.routes = {**ENDPOINTS, **(routes or {})}
        self.events: queue.Queue[bytes | None] = queue.Queue()
        self.release = threading.Event()
        self.uploaded = 0

    def serve(self, stream: RecordingStream) -> None:
        while True:
            head = read_head(stream)
            self.recorder.note(partial(stream.connection.heads.append, head.raw))
            exchange = Exchange(self, stream, head)
            self.routes.get(exchange.path.split("/")[1], not_found)(exchange)
            if head.get("connection") == "close" or exchange.path.startswith(("/raw", "/until-close")):
                return

    @property
    def requests(self) -> list[Head]:
        return [parse_head(raw) for raw in self.recorder.heads]


def not_found(exchange: Exchange) -> None:
    exchange.body()
    exchange.answer(b"no such endpoint\n", status="404 Not Found")


def plain(exchange: Exchange) -> None:
    exchange.body()
    exchange.answer(f"ok from {exchange.origin.name}\n".encode(), "content-type: text/plain")


def echo(exchange: Exchange) -> None:
    body, trailers = exchange.body()
    seen = {
        "method": exchange.method,
        "target": exchange.target,
        "headers": [list(pair) for pair in exchange.head.fields],
        "length": len(body),
        "trailers": [list(pair) for pair in trailers],
    }
    exchange.answer(json.dumps(seen).encode(), "content-type: application/json")


def sse(exchange: Exchange) -> None:
    exchange.start("200 OK", "content-type: text/event-stream", "transfer-encoding: chunked")
    while (event := exchange.origin.events.get(timeout=PATIENCE)) is not None:
        exchange.chunk(b"data: " + event + b"\n\n")
    exchange.chunk(b"")


def pieces(count: int) -> Iterator[bytes]:
    for at in range(0, count, len(CHUNK)):
        yield CHUNK[: min(len(CHUNK), count - at)]


def big(exchange: Exchange) -> None:
    count = int(exchange.query["n"])
    exchange.start("200 OK", f"content-length: {count}")
    for piece in pieces(count):
        exchange.send(piece)


def upload(exchange: Exchange) -> None:
    """Counts the body without keeping it."""
    length = exchange.head.get("content-length")
    count = exchange.stream.skip(int(length)) if length else len(exchange.body()[0])
    exchange.origin.recorder.note(lambda: setattr(exchange.origin, "uploaded", count))
    exchange.answer(json.dumps({"received": count}).encode())


def chunked(exchange: Exchange) -> None:
    exchange.body()
    exchange.start("200 OK", "transfer-encoding: chunked")
    for piece in (b"one ", b"two ", b"three"):
        exchange.chunk(piece)
    exchange.chunk(b"")


def trailers(exchange: Exchange) -> None:
    exchange.body()
    exchange.start("200 OK", "transfer-encoding: chunked", "trailer: x-checksum")
    exchange.chunk(b"with trailers")
    exchange.send(b"0\r\nx-checksum: 1234\r\n\r\n")


def slow(exchange: Exchange) -> None:
    exchange.body()
    exchange.origin.release.wait(PATIENCE)
    exchange.answer(b"released\n")


def until_close(exchange: Exchange) -> None:
    exchange.start("200 OK", "content-type: text/plain")
    exchange.send(b"ends with the connection")


def redirect(exchange: Exchange) -> None:
    exchange.answer(b"", f"location: {exchange.query['to']}", 'alt-svc: h3=":443"', status="302 Found")


def hop_by_hop(exchange: Exchange) -> None:
    """An answer with every field that belongs to the connection and not to the message."""
    private = ["connection: x-private", "x-private: 1", "keep-alive: timeout=5", "proxy-authenticate: Basic"]
    exchange.answer(b"hops\n", *private, "upgrade: foo", "x-kept: yes")


# What a broken or hostile origin sends instead of an answer (security case F10). The connection closes after it.
RAW_ANSWERS: dict[str, bytes] = {
    "status-099": b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n",
    "status-text": b"HTTP/1.1 abc Odd\r\ncontent-length: 0\r\n\r\n",
    "status-1000": b"HTTP/1.1 1000 Odd\r\ncontent-length: 0\r\n\r\n",
    "not-http": b"220 mail.test ESMTP\r\n",
    "bad-field": b"HTTP/1.1 200 OK\r\nno colon here\r\ncontent-length: 0\r\n\r\n",
    "space-in-name": b"HTTP/1.1 200 OK\r\nx bad: 1\r\ncontent-length: 0\r\n\r\n",
    "nul-in-value": b"HTTP/1.1 200 OK\r\nx-a: 1\x00\r\ncontent-length: 0\r\n\r\n",
    "two-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 5\r\n\r\nhello",
    "length-text": b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\nraw bytes",
    "nothing": b"",
    "half-a-head": b"HTTP/1.1 200 OK\r\ncontent-le",
}


def raw(exchange: Exchange) -> None:
    exchange.body()
    name = exchange.path.rpartition("/")[2]
    if name == "endless-head":
        return endless_head(exchange)
    if name == "two-answers":
        one = b"HTTP/1.1 200 OK\r\nx-origin: raw\r\ncontent-length: 5\r\n\r\nfirst"
        return exchange.send(one + one.replace(b"first", b"extra"))
    exchange.send(RAW_ANSWERS[name])


def endless_head(exchange: Exchange) -> None:
    """Sends one field line until the other side has had enough, at most 64 MiB."""
    exchange.send(b"HTTP/1.1 200 OK\r\nx-long: ")
    for _ in range(64):
        exchange.send(b"a" * (1 << 20))


ENDPOINTS: dict[str, Handler] = {
    "t": plain,
    "": plain,
    "echo": echo,
    "sse": sse,
    "big": big,
    "upload": upload,
    "chunked": chunked,
    "trailers": trailers,
    "slow": slow,
    "until-close": until_close,
    "redirect": redirect,
    "hops": hop_by_hop,
    "raw": raw,
}
