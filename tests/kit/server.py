"""A recording loopback listener: one thread for each connection, everything that arrived kept for the test."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .wire import Ended, Stream

KEPT = 1 << 20
PATIENCE = 10.0


@dataclass(slots=True)
class Connection:
    """What one client sent: the first mebibyte of its bytes, and each request head with its body."""

    number: int
    peer: str
    received: bytearray = field(default_factory=bytearray)
    heads: list[bytes] = field(default_factory=list)
    sni: str | None = None
    closed: bool = False


class Recorder:
    """Everything that reached an origin. Safe to read from the test while connections are open.

    `settle` returns once every connection that was made before it is recorded.
    """

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle
        self.connections: list[Connection] = []
        self.changed = threading.Condition()
        self.stopping = threading.Event()

    def opened(self, peer: str) -> Connection:
        with self.changed:
            connection = Connection(len(self.connections), peer)
            self.connections.append(connection)
            self.changed.notify_all()
            return connection

    def note(self, change: Callable[[], object]) -> None:
        with self.changed:
            change()
            self.changed.notify_all()

    @property
    def heads(self) -> list[bytes]:
        with self.changed:
            return [head for connection in self.connections for head in connection.heads]

    @property
    def received(self) -> bytes:
        with self.changed:
            return b"".join(bytes(connection.received) for connection in self.connections)

    def mark(self) -> int:
        """A place in time, for `since`: what connected before it is not counted later."""
        self._settle()
        with self.changed:
            return len(self.connections)

    def since(self, mark: int) -> list[Connection]:
        """The connections made since then, every one of them."""
        self._settle()
        with self.changed:
            return self.connections[mark:]

    def wait_for(self, piece: bytes, mark: int) -> None:
        """Returns as soon as one of the connections since `mark` has received `piece`."""
        self.wait(lambda: any(piece in one.received for one in self.connections[mark:]), repr(piece))

    def wait(self, true: Callable[[], bool], what: str) -> None:
        """Returns as soon as `true()`; fails the test when that takes too long."""
        with self.changed:
            assert self.changed.wait_for(true, PATIENCE), f"never happened: {what}"


class RecordingStream(Stream):
    """A stream that keeps what it reads."""

    def __init__(self, sock: socket.socket, connection: Connection, recorder: Recorder) -> None:
        super().__init__(sock)
        self.connection = connection
        self.recorder = recorder

    def _fill(self) -> bool:
        before = len(self.buffer)
        more = super()._fill()
        new = self.buffer[before:]
        self.recorder.note(lambda: self.connection.received.extend(new[: KEPT - len(self.connection.received)]))
        return more


def _listen(host: str) -> socket.socket:
    if not host.startswith("/"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, 0), family=family, backlog=512)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(host)
    listener.listen(512)
    return listener


def _name(address: Any) -> str:
    """A socket's address; that of a unix socket is its path, or nothing."""
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"


class Server:
    """Listens on a loopback port of its own from construction on; use it as a context manager.

    A `host` that is a path makes it a unix socket.
    """

    name = "server"

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.recorder = Recorder(self._settle)
        self.tls = tls
        self._sentinels: set[str] = set()
        self._open: set[socket.socket] = set()
        self._listener = _listen(host)
        self.host, self.port = host, 0
        if self._listener.family is not socket.AF_UNIX:
            self.host, self.port = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._accept, name=self.name, daemon=True)

    def serve(self, stream: RecordingStream) -> None:
        """Talks to one client until it is done. Overridden by each origin."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.recorder.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                sock, peer = self._listener.accept()
            except OSError:
                return
            if _name(peer) in self._sentinels:
                sock.close()
                self.recorder.note(partial(self._sentinels.discard, _name(peer)))
                continue
            connection = self.recorder.opened(_name(peer))
            threading.Thread(target=self._talk, args=(sock, connection), daemon=True).start()

    def _settle(self) -> None:
        """Sends a connection of our own through the queue: clients are taken in the order in which they came."""
        if not self._thread.is_alive():
            return
        with socket.socket(self._listener.family) as sentinel:
            sentinel.settimeout(PATIENCE)
            at_path = self._listener.family is socket.AF_UNIX
            sentinel.bind(f"{self.host}.kit" if at_path else (self.host, 0))
            name = _name(sentinel.getsockname())
            self.recorder.note(partial(self._sentinels.add, name))
            sentinel.connect(self._listener.getsockname())
            self.recorder.wait(lambda: name not in self._sentinels, "the kit's own connection")
            if at_path:
                Path(name).unlink()

    def _talk(self, sock: socket.socket, connection: Connection) -> None:
        self._open.add(sock)
        try:
            if sock.family is not socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secured = self._secure(sock, connection)
            self._open.add(secured)
            with secured:
                self.serve(RecordingStream(secured, connection, self.recorder))
            self._open.discard(secured)
        except (OSError, Ended):
            pass  # The client went away; what it sent is recorded.
        finally:
            self._open.discard(sock)
            sock.close()
            self.recorder.note(lambda: setattr(connection, "closed", True))

    def _secure(self, sock: socket.socket, connection: Connection) -> socket.socket:
        if self.tls is None:
            return sock
        wrapped = self.tls.wrap_socket(sock, server_side=True)
        connection.sni = getattr(wrapped, "asked_name", None)
        return wrapped
