"""The byte relay: two sockets, no tasks, no streams, and at most one read of bytes held per direction."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

from .poller import ERROR, HANGUP, READ, WRITE, Poller

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Side:
    """One of the two sockets, and the bytes that wait to be sent to it."""

    __slots__ = ("ended", "fd", "held", "open", "other", "received", "relay", "sock")

    other: _Side
    relay: Relay

    def __init__(self, relay: Relay, sock: socket.socket) -> None:
        self.relay = relay
        self.sock = sock
        self.fd = sock.fileno()
        self.held: bytes | memoryview = b""
        self.open = True
        self.ended = False  # the peer has sent its last byte
        self.received = 0

    def ready(self, events: int) -> None:
        if events & WRITE and self.held:
            self._flush()
        if events & (READ | ERROR | HANGUP) and self.open:
            if self.ended or self.other.held:
                self._broken_while_silent(events)
            else:
                self._receive()

    def crashed(self, error: Exception) -> None:
        if self.open:
            self.relay.close()

    def leave(self) -> None:
        """Closes the socket, and leaves no cycle for the garbage collector."""
        self.open = False
        self.relay.poller.close_socket(self.sock)
        del self.relay, self.other

    def give(self, data: memoryview | bytes) -> None:
        """Sends `data` to this side, or holds what the socket does not take."""
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.relay.fail()
            return
        if sent < len(data):
            # The copy frees the shared buffer; the view lets the rest shrink without further copies.
            self.held = memoryview(bytes(data[sent:]))
            self.watch()
            self.other.watch()

    def watch(self) -> None:
        """Reads only when the other side has taken everything: that is the back-pressure."""
        mask = 0 if self.ended or self.other.held else READ
        self.relay.poller.watch(self.fd, self, mask | WRITE if self.held else mask)

    def end(self) -> None:
        """No more bytes will come from here: passes the half-close on, once everything before it is out."""
        self.ended = True
        other = self.other
        if other.held:
            self.watch()
            return
        if other.ended and not self.held:
            self.relay.close()
            return
        self.watch()
        other.shut()

    def shut(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.relay.fail()

    def _receive(self) -> None:
        buffer = self.relay.poller.buffer
        try:
            size = self.sock.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError:
            self.relay.fail()
            return
        if size:
            self.received += size
            self.other.give(buffer[:size])
        else:
            self.end()

    def _broken_while_silent(self, events: int) -> None:
        if events & ERROR:
            self.relay.fail()
        elif events & HANGUP:  # would be reported again and again until there is room to read
            self.relay.poller.silence(self.fd)

    def _flush(self) -> None:
        try:
            sent = self.sock.send(self.held)
        except BlockingIOError:
            return
        except OSError:
            self.relay.fail()
            return
        self.held = self.held[sent:]
        if self.held:
            return
        self.held = b""
        if not self.other.ended:
            self.watch()
            self.other.watch()
        elif self.ended:
            self.relay.close()
        else:
            self.watch()
            self.shut()


class Relay:
    """One tunnel: moves bytes between two connected, non-blocking sockets until both have ended or one has failed.

    Owns the sockets, which the poller may be watching already. `on_closed` is called once, when both are closed.
    """

    __slots__ = ("_client", "_on_closed", "_upstream", "closed", "poller")

    def __init__(
        self, poller: Poller, client: socket.socket, upstream: socket.socket, on_closed: Callable[[Relay], None]
    ) -> None:
        self.poller = poller
        self.closed = False
        self._on_closed = on_closed
        self._client = _Side(self, client)
        self._upstream = _Side(self, upstream)
        self._client.other = self._upstream
        self._upstream.other = self._client

    @property
    def bytes_up(self) -> int:
        """Bytes taken from the client, and sent or about to be sent upstream."""
        return self._client.received

    @property
    def bytes_down(self) -> int:
        """Bytes taken from upstream."""
        return self._upstream.received

    def start(self, reply: bytes, early: bytes = b"", client_ended: bool = False) -> None:
        """Sends `reply` to the client and `early`, what the client sent ahead, upstream; then moves bytes.

        `client_ended`: the client has already said that it will send no more. When this raises, both are closed.
        """
        try:
            self._begin(reply, early, client_ended)
        except Exception:
            self.close()
            raise

    def _begin(self, reply: bytes, early: bytes, client_ended: bool) -> None:
        client, upstream = self._client, self._upstream
        client.watch()
        upstream.watch()
        if reply:
            client.give(reply)
        if early and not self.closed:
            client.received = len(early)
            upstream.give(early)
        if client_ended and not self.closed:
            client.end()

    def close(self) -> None:
        """Closes both sockets. Harmless when called again."""
        if self.closed:
            return
        self.closed = True
        for side in (self._client, self._upstream):
            side.leave()
        self._on_closed(self)

    def fail(self) -> None:
        """Closes both sockets after an error. A side that was still owed bytes sees a reset, not a clean end."""
        for side in (self._client, self._upstream):
            if side.held:
                with contextlib.suppress(OSError):
                    side.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close()
