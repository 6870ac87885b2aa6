"""The origin: answers every GET with a few bytes, in HTTP and HTTPS, HTTP/1.1 and HTTP/2; `/bulk` never ends."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass
from multiprocessing.connection import Connection

from .frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    Frames,
    acknowledgement,
    answer_block,
    frame,
    greeting,
)
from .poller import Poller, new_poller

BULK_PATH = "/bulk"
BODY = b"hello, world\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
BULK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000000000\r\n\r\n"
BULK = memoryview(bytes(1 << 20))
H2_BLOCK = answer_block(len(BODY))

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Ports:
    plain: int
    tls: int


class Peer:
    """One connection. Small answers are taken to fit into the socket's buffer: the clients ask one at a time."""

    def __init__(self, poller: Poller, sock: socket.socket) -> None:
        self._poller = poller
        self._sock = sock
        self._have = b""
        self._poured = 0
        self._preface = len(PREFACE)  # bytes of it to come
        self._frames: Frames | None = None
        poller.watch(sock, self._handshake if isinstance(sock, ssl.SSLSocket) else self._receive)

    def _handshake(self) -> None:
        assert isinstance(self._sock, ssl.SSLSocket)
        try:
            self._sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self._close()
            return
        if self._sock.selected_alpn_protocol() == "h2":
            self._frames = Frames()
            self._sock.sendall(greeting())
        self._poller.watch(self._sock, self._receive)

    def _receive(self) -> None:
        try:
            data = self._sock.recv(65_536)
            if data:
                self._answer(data)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self._close()

    def _answer(self, data: bytes) -> None:
        if self._frames:
            self._answer_frames(self._frames, data)
            return
        if self._have:
            data = self._have + data
        if not data.endswith(b"\r\n\r\n"):
            self._have = data
            return
        self._have = b""
        if b" /bulk" in data:
            self._sock.send(BULK_HEAD)
            self._poller.watch(self._sock, self._pour, write=True)
            return
        self._sock.send(ANSWER * data.count(b"\r\n\r\n"))
        if b"onnection: close" in data:
            self._close()

    def _answer_frames(self, frames: Frames, data: bytes) -> None:
        skipped = min(self._preface, len(data))
        self._preface -= skipped
        answers = b""
        for kind, flags, stream, payload in frames.feed(data[skipped:]):
            if kind in (SETTINGS, PING) and not flags & ACK:
                answers += acknowledgement(kind, payload)
            elif kind in (HEADERS, DATA) and flags & END_STREAM:
                answers += frame(HEADERS, END_HEADERS, stream, H2_BLOCK) + frame(DATA, END_STREAM, stream, BODY)
        if answers:
            self._sock.send(answers)

    def _pour(self) -> None:
        try:
            self._poured = (self._poured + self._sock.send(BULK[self._poured :])) % len(BULK)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return
        except OSError:
            self._close()

    def _close(self) -> None:
        self._poller.forget(self._sock)
        self._sock.close()


class Origin:
    """Listens on both loopback addresses, on the same two ports."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.poller = new_poller()
        self.ports = Ports(self._listen(None), self._listen(context))

    def _listen(self, context: ssl.SSLContext | None) -> int:
        first = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        port = int(first.getsockname()[1])
        self._accept_from(first, context)
        # `localhost` may mean either; without IPv6 on this machine, one is enough.
        with contextlib.suppress(OSError):
            second = socket.create_server(("::1", port), family=socket.AF_INET6, backlog=BACKLOG)
            self._accept_from(second, context)
        return port

    def _accept_from(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        listener.setblocking(False)

        def accept() -> None:
            with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
                while True:
                    self._take(listener.accept()[0], context)

        self.poller.watch(listener, accept)

    def _take(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            with contextlib.suppress(OSError):
                sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        Peer(self.poller, sock)


def serve_origin(channel: Connection, chain: str) -> None:
    """The origin's process: says its ports, and serves until the other end of `channel` is closed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    context.set_alpn_protocols(["h2", "http/1.1"])
    origin = Origin(context)
    channel.send(origin.ports)
    running = True

    def stop() -> None:
        nonlocal running
        running = False

    origin.poller.watch(channel, stop)
    while running:
        origin.poller.once(60)
