"""One client of the HTTP listener: reads a head, acts on it, and is closed exactly once."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.socks.poller import READ

from . import door_answers as answers
from .decision_log import log_bad_head
from .door_connect import Connect
from .http_head import (
    HEAD_LIMIT,
    BadHead,
    check_incomplete,
    check_request_head,
    connect_request,
    find_head_end,
)

if TYPE_CHECKING:
    from codex_network_proxy.socks.deadlines import Deadlines

    from .doorway import Doorway

# What a client may still send after its last answer before the connection is closed on it, in bytes.
DRAIN_LIMIT = 1 << 20


class DoorConnection:
    """Reads one request head at a time. Has no timer, task or stream of its own.

    `open` until it was closed, relayed or handed over.
    """

    __slots__ = ("_due", "_received", "door", "fd", "open", "peer", "sock")

    def __init__(self, door: Doorway, sock: socket.socket, peer: str) -> None:
        self.door = door
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.open = True
        self._due: Deadlines[DoorConnection] | None = None
        self._received = bytearray()

    # -- a head ------------------------------------------------------------------------------------------------------

    def await_head(self) -> None:
        """Reads the next head, in a limited time."""
        self._received.clear()
        self.limit(self.door.idle)
        self.door.poller.watch(self.fd, self, READ)

    def ready(self, events: int) -> None:
        data = self.receive()
        if data:
            try:
                self._take(data)
            except BadHead as error:
                log_bad_head(error, self.peer)
                self.finish(answers.bad_head(error))
        elif data is not None:
            self.close()

    def crashed(self, error: Exception) -> None:
        self.close()

    def _take(self, data: bytes) -> None:
        searched = len(self._received)
        if searched:
            self._received += data
            data = bytes(self._received) if b"\n" in data else b""
        if data.startswith(b"\r\n"):  # an empty line before a request is tolerated (RFC 9112 section 2.2)
            data = data[2:]
        end = find_head_end(data, searched)
        if end is None or end > HEAD_LIMIT:
            self._wait_for_more(data, searched)
        else:
            self._act_on(data, end)

    def _wait_for_more(self, data: bytes, searched: int) -> None:
        if not searched and data:
            self.limit(self.door.head_due)
            self._received += data
        check_incomplete(self._received, searched)

    def _act_on(self, received: bytes, end: int) -> None:
        self.limit(None)
        if received.startswith(b"CONNECT ") and self.door.fast_path:
            head, target = connect_request(received[:end])
            Connect(self, received, head).decide(target)
        else:
            check_request_head(received[:end])
            self.hand_over(received, None)

    # -- what the phases share ---------------------------------------------------------------------------------------

    def receive(self) -> bytes | None:
        """What has arrived, empty at the end of the stream; `None` when there is nothing, or nobody any more."""
        buffer = self.door.poller.buffer
        try:
            size = self.sock.recv_into(buffer, HEAD_LIMIT)
        except BlockingIOError:
            return None
        except OSError:
            self.close()
            return None
        return bytes(buffer[:size])

    def send(self, answer: bytes) -> bool:
        """Whether the whole answer is out. A client that leaves no room for it is not reading: it is cut off."""
        try:
            if self.sock.send(answer) == len(answer):
                return True
        except OSError:
            pass
        self.close()
        return False

    def limit(self, deadlines: Deadlines[DoorConnection] | None) -> None:
        """Puts the connection under this time limit in place of the one before."""
        if self._due is not None:
            self._due.discard(self)
        self._due = deadlines
        if deadlines is not None:
            deadlines.add(self)

    # -- ends --------------------------------------------------------------------------------------------------------

    def finish(self, answer: bytes, ended: bool = False) -> None:
        """Sends the last answer, and reads on for a moment: closing on unread bytes would take the answer back.

        `ended`: the client has said already that it will send no more.
        """
        if not self.send(answer):
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            ended = True
        if ended:
            self.close()
            return
        self.limit(self.door.lingering)
        self.door.poller.watch(self.fd, _Farewell(self), READ)

    def close(self) -> None:
        """Closes the connection, whatever it was doing. Harmless when called again."""
        if self.open:
            self.leave()
            self.door.poller.close_socket(self.sock)
            self.door.released()

    def leave(self) -> None:
        """The socket goes on without this connection."""
        self.open = False
        self.limit(None)
        self.door.connections.discard(self)

    def hand_over(self, received: bytes, verdict: Allowed | None) -> None:
        """The engine takes the client, with every byte read so far."""
        self.leave()
        self.door.poller.forget(self.fd)
        self.door.hand_over(self.sock, received, self.peer, verdict)

    def head_overdue(self) -> None:
        self.finish(answers.head_too_late())

    def turn_away(self) -> None:
        """For a connection too many: an answer before anything is read."""
        self.finish(answers.too_many_connections())


class _Farewell:
    """Reads and drops what a client still sends after its last answer."""

    __slots__ = ("_client", "_left")

    def __init__(self, client: DoorConnection) -> None:
        self._client = client
        self._left = DRAIN_LIMIT

    def ready(self, events: int) -> None:
        data = self._client.receive()
        if data is None:
            return
        self._left -= len(data)
        if not data or self._left < 0:
            self._client.close()

    def crashed(self, error: Exception) -> None:
        self._client.close()
