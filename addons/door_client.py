"""One client of a door, whatever it speaks: read, answered, and closed or given on exactly once."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from codex_network_proxy.policy.decision import UNSCOPED, Allowed, ClientScope
from codex_network_proxy.policy.responses import Refusal
from codex_network_proxy.socks.poller import READ

from .http_head import HEAD_LIMIT

if TYPE_CHECKING:
    from codex_network_proxy.socks.deadlines import Deadlines

    from .door_reach import Unreached
    from .doorway import Doorway

# What a client may still send after its last answer before the connection is closed on it, in bytes.
DRAIN_LIMIT = 1 << 20


class DoorClient(ABC):
    """Has no timer, task or stream of its own. `open` until it was closed, relayed or handed over.

    `scope` is what the embedding code said of whoever comes in where this client did.
    """

    __slots__ = ("_due", "door", "fd", "open", "peer", "scope", "sock")

    def __init__(self, door: Doorway, sock: socket.socket, peer: str, scope: ClientScope = UNSCOPED) -> None:
        self.door = door
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.scope = scope
        self.open = True
        self._due: Deadlines[DoorClient] | None = None

    # -- what it speaks ----------------------------------------------------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """Reads what the client wants, in a limited time."""

    @abstractmethod
    def ready(self, events: int) -> None:
        """See `Watcher`."""

    @abstractmethod
    def overdue(self) -> None:
        """The client has begun to say what it wants, and was too slow."""

    @abstractmethod
    def turn_away(self) -> None:
        """For a connection too many: the end before anything is read."""

    @abstractmethod
    def granted(self, upstream: socket.socket) -> bytes:
        """The answer to a tunnel that leads through `upstream` from now on."""

    @abstractmethod
    def refuse(self, verdict: Refusal, *, waiting: bool, ended: bool) -> None:
        """Answers a tunnel that is not to be.

        `waiting`: the client has sent nothing ahead, and may speak again. `ended`: it will send no more.
        """

    @abstractmethod
    def unreachable(self, verdict: Allowed, why: Unreached, *, waiting: bool, ended: bool) -> None:
        """Answers a tunnel whose target could not be reached; else as `refuse`."""

    @abstractmethod
    def pass_on(self, verdict: Allowed, early: bytes) -> None:
        """Gives a tunnel to the engine; `early` is what the client sent ahead."""

    # -- what all of them do -----------------------------------------------------------------------------------------

    def crashed(self, error: Exception) -> None:
        self.close()

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

    def limit(self, deadlines: Deadlines[DoorClient] | None) -> None:
        """Puts the connection under this time limit in place of the one before."""
        if self._due is not None:
            self._due.discard(self)
        self._due = deadlines
        if deadlines is not None:
            deadlines.add(self)

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
        """The engine takes the client, with the bytes it has still to read; see `HandOver`."""
        self.leave()
        self.door.poller.forget(self.fd)
        self.door.hand_over(self.sock, received, self.peer, verdict, self.scope)


class _Farewell:
    """Reads and drops what a client still sends after its last answer."""

    __slots__ = ("_client", "_left")

    def __init__(self, client: DoorClient) -> None:
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
