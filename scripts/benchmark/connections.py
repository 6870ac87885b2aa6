"""One connection of the load client: through the proxy's door, perhaps through TLS, then request after request."""

from __future__ import annotations

import re
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RESET,
    SETTINGS,
    STATUS_200,
    Frames,
    acknowledgement,
    frame,
    get_block,
    greeting,
)
from .poller import Poller
from .scenarios import Scenario, Speech, Way

SOCKS_GREETING, SOCKS_METHOD = b"\x05\x01\x00", b"\x05\x00"
SOCKS_CONNECT, SOCKS_GRANTED = b"\x05\x01\x00\x01", b"\x05\x00\x00\x01"
SOCKS_REPLY = 10
"""Bytes of a reply that names an IPv4 address."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_BUFFER = memoryview(bytearray(1 << 20))
_SMALL = _BUFFER[:65_536]

# Linux can throw bytes away unseen: counting them then costs the client next to nothing.
_UNSEEN = socket.MSG_TRUNC if sys.platform == "linux" else 0

PATIENCE = 10.0
"""Seconds for a connection to be accepted."""


def _ignore(_: bytes) -> None:
    """What a closed connection does with bytes."""


@dataclass(frozen=True, slots=True)
class Road:
    """The way to the origin: which address to connect to, what to say there, and whom to trust."""

    scenario: Scenario
    door: tuple[str, int]  # the proxy's address, or the origin's own
    proxied: bool
    host: str
    port: int
    path: str
    context: ssl.SSLContext | None

    def introduction(self) -> bytes:
        """The CONNECT that comes first, if any."""
        if not self.proxied or self.scenario.way is not Way.TUNNEL:
            return b""
        return f"CONNECT {self.host}:{self.port} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode()

    @property
    def by_socks(self) -> bool:
        return self.proxied and self.scenario.way is Way.SOCKS

    def socks_request(self) -> bytes:
        """A CONNECT to the host, which is an address in dotted quads (RFC 1928 section 4)."""
        return SOCKS_CONNECT + socket.inet_aton(self.host) + self.port.to_bytes(2)

    def request(self) -> bytes:
        whole = self.proxied and self.scenario.way is Way.FORWARD
        target = f"http://{self.host}:{self.port}{self.path}" if whole else self.path
        return f"GET {target} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nUser-Agent: bench\r\n\r\n".encode()


class Owner(Protocol):
    """Who a connection reports to. Each word may close it."""

    def answered(self, connection: Connection, amount: int) -> None:
        """An operation is complete; or, of a bulk answer, so many bytes have come."""
        ...

    def left(self, connection: Connection) -> None:
        """The peer closed it between two answers."""
        ...

    def failed(self, connection: Connection, what: str) -> None: ...


class Connection:
    """Connected when made, and at work once started. The owner asks again after each answer, or closes."""

    def __init__(self, owner: Owner, poller: Poller, road: Road) -> None:
        self._owner = owner
        self._poller = poller
        self._road = road
        self._have = b""
        self._usual = b""
        self.closing = False  # the peer closes it after the answer that was just read
        self._expected = b"200"
        self._request = road.request()
        self._frames = Frames()
        self._block = b""
        self._next_stream = 1
        # On loopback a connection is made within the call.
        self._sock: socket.socket = socket.create_connection(road.door, timeout=PATIENCE)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._take: Callable[[bytes], None] = self._introduced
        poller.watch(self._sock, self._receive)

    def start(self) -> None:
        if self._road.by_socks:
            self._take = self._greeted
            self._sock.send(SOCKS_GREETING)
        elif introduction := self._road.introduction():
            self._expected = b"403" if self._road.scenario.denied else b"200"
            self._sock.send(introduction)
        else:
            self._inside()

    def _greeted(self, data: bytes) -> None:
        if data != SOCKS_METHOD:
            self._fail(data)
            return
        self._take = self._let_through
        self._sock.send(self._road.socks_request())

    def _let_through(self, data: bytes) -> None:
        if len(data) != SOCKS_REPLY or not data.startswith(SOCKS_GRANTED):
            self._fail(data)
        else:
            self._inside()

    def _introduced(self, data: bytes) -> None:
        if self._road.scenario.denied:
            self._answer(data)
            return
        data = self._have + data
        if b"\r\n\r\n" not in data:
            self._have = data
        elif data[9:12] != b"200":
            self._fail(data)
        else:
            self._have = b""
            self._inside()

    def _inside(self) -> None:
        """The way to the origin is free."""
        scenario = self._road.scenario
        if scenario.speech is not Speech.PLAIN:
            assert self._road.context
            self._sock = self._road.context.wrap_socket(
                self._sock, server_hostname=self._road.host, do_handshake_on_connect=False
            )
            self._poller.watch(self._sock, self._shake_hands)
            self._shake_hands()
        else:
            self._begin()

    def _shake_hands(self) -> None:
        assert isinstance(self._sock, ssl.SSLSocket)
        try:
            self._sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self._owner.failed(self, f"handshake: {error}")
            return
        self._poller.watch(self._sock, self._receive)
        self._begin()

    def _begin(self) -> None:
        self._take = self._answer
        if self._road.scenario.speech is Speech.TLS_H2:
            self._take = self._answer_frames
            self._block = get_block(f"{self._road.host}:{self._road.port}", self._road.path)
            self._sock.send(PREFACE + greeting())
        elif self._road.scenario.bulk:
            self._take = self._bulk_head
        for _ in range(self._road.scenario.streams):
            self.ask()

    def ask(self) -> None:
        """Sends one more request."""
        if self._block:
            self._sock.send(frame(HEADERS, END_HEADERS | END_STREAM, self._next_stream, self._block))
            self._next_stream += 2
        else:
            self._sock.send(self._request)

    def close(self) -> None:
        """Harmless when called again."""
        self._poller.forget(self._sock)
        self._sock.close()
        self._take = _ignore  # the method held the connection in a circle

    def _receive(self) -> None:
        try:
            count = self._sock.recv_into(_SMALL)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self._ended(str(error))
            return
        if count:
            self._take_safely(bytes(_SMALL[:count]))
        elif self._have and self._have[9:12] == self._expected:
            self.closing = True
            self._owner.answered(self, 1)  # an answer that ends with its connection
        else:
            self._ended("closed")

    def _take_safely(self, data: bytes) -> None:
        try:
            self._take(data)
        except OSError as error:
            self._ended(str(error))

    def _ended(self, what: str) -> None:
        """Some proxies close after each answer without a word: the next request is then asked in vain."""
        if self._usual and not self._have:
            self._owner.left(self)
        else:
            self._owner.failed(self, what)

    def _answer(self, data: bytes) -> None:
        """Part of an answer, or all of it; answers that look like the one before are not parsed again."""
        data = self._have + data
        if data != self._usual:
            end = data.find(b"\r\n\r\n")
            length = _LENGTH.search(data, 0, end + 2)
            if end < 0 or length is None or len(data) < end + 4 + int(length[1]):
                self._have = data
                return
            if data[9:12] != self._expected:
                self._fail(data)
                return
            self._usual = data
            self.closing = b"onnection: close" in data[:end]
        self._have = b""
        self._owner.answered(self, 1)

    def _answer_frames(self, data: bytes) -> None:
        for kind, flags, _, payload in self._frames.feed(data):
            if kind in (SETTINGS, PING) and not flags & ACK:
                self._sock.send(acknowledgement(kind, payload))
            elif kind in (RESET, GOAWAY) or (kind == HEADERS and payload[:1] != bytes((STATUS_200,))):
                self._owner.failed(self, f"an answer in HTTP/2 other than 200 (frame type {kind})")
                return
            elif kind in (HEADERS, DATA) and flags & END_STREAM:
                self._owner.answered(self, 1)

    def _bulk_head(self, data: bytes) -> None:
        data = self._have + data
        if b"\r\n\r\n" not in data:
            self._have = data
        elif data[9:12] != b"200":
            self._fail(data)
        else:
            self._poller.watch(self._sock, self._count)

    def _count(self) -> None:
        try:
            count = self._sock.recv_into(_BUFFER, len(_BUFFER), _UNSEEN)
        except BlockingIOError:
            return
        except OSError as error:
            self._owner.failed(self, str(error))
            return
        if count:
            self._owner.answered(self, count)
        else:
            self._owner.failed(self, "closed")

    def _fail(self, data: bytes) -> None:
        line = data.split(b"\r\n", 1)[0].decode("latin-1")
        self._owner.failed(self, f"answered {line!r}")
