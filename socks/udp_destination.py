"""One place that a client of a UDP association sends to: judged once, then a connected socket of its own."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .addressing import IPAddress, Target
from .datagrams import Dropped, header_of, header_target, names_an_address
from .listener import address_text
from .poller import READ
from .udp_sockets import Sender

if TYPE_CHECKING:
    from .udp import Association

# Datagrams that one event of a socket may move before the others have their turn.
BATCH = 64


class Destination:
    """Holds what the client sends until `allow`, `deny` or `fail` is called, then sends it on or drops it.

    The socket is connected: the kernel lets nobody but the pinned address and port answer, and reports refusals.
    """

    __slots__ = (
        "_association", "_drop_as", "_peer", "_reply_header", "_sock", "_waiting", "bytes_down", "bytes_up", "header",
    )  # fmt: skip

    def __init__(self, association: Association, header: bytes) -> None:
        self.header = header
        self.bytes_up = 0
        self.bytes_down = 0
        self._association = association
        self._sock: socket.socket | None = None
        self._peer: Sender | None = None
        self._reply_header = header
        self._waiting: deque[bytes] | None = deque()
        self._drop_as = Dropped.DENIED

    @property
    def target(self) -> Target:
        """Where the client wants its datagrams to go, in its own words."""
        return header_target(self.header)

    @property
    def judging(self) -> bool:
        """Whether the decision is still open."""
        return self._waiting is not None

    @property
    def peer(self) -> str:
        """The pinned `ip:port`; `unknown` when there is no socket."""
        return address_text(self._peer) if self._peer else "unknown"

    def take(self, payload: memoryview | bytes) -> None:
        """Sends a datagram of the client, keeps it until there is a decision, or drops it."""
        if self._sock is not None:
            self._send(payload)
        elif self._waiting is not None:
            self._hold(self._waiting, bytes(payload))
        else:
            self._association.drop(self._drop_as)
            if self._drop_as is Dropped.DENIED:
                self._association.shared.denied.add(self)

    # -- the decision ------------------------------------------------------------------------------------------------

    def allow(self, addresses: Iterable[IPAddress]) -> bool:
        """Pins the first of `addresses` that there is a way to, and sends what has waited; whether there is one.

        Without a way, the next datagram after a few seconds is judged anew. A decision that comes too late is ignored.
        """
        waiting = self._stop_waiting()
        if waiting is None:
            return False
        if not any(map(self._connect, addresses)):
            self._retry_later()
            return False
        self._association.shared.idle.add(self)
        for payload in waiting:
            self._send(payload)
        return True

    def deny(self) -> None:
        """Drops what has waited, and what will come, until nothing has come for a while."""
        if self._stop_waiting() is not None:
            self._association.shared.denied.add(self)

    def fail(self) -> None:
        """Drops what has waited; the next datagram after a few seconds is judged anew."""
        if self._stop_waiting() is not None:
            self._retry_later()

    def forget(self) -> None:
        """The next datagram to this place is judged anew, and pinned anew. Harmless when called again."""
        self._stop_waiting()
        shared = self._association.shared
        for deadlines in (shared.idle, shared.denied, shared.failed):
            deadlines.discard(self)
        self._disconnect()
        self._association.forgotten(self)

    def _stop_waiting(self) -> deque[bytes] | None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._association.judging -= 1
            self._association.shared.held -= sum(map(len, waiting))
        return waiting

    def _retry_later(self) -> None:
        self._drop_as = Dropped.UNREACHABLE
        self._association.shared.failed.add(self)

    def _hold(self, waiting: deque[bytes], payload: bytes) -> None:
        shared = self._association.shared
        if len(waiting) >= shared.limits.held:
            shared.held -= len(waiting.popleft())
            self._association.drop(Dropped.WAITING)
        if shared.held + len(payload) > shared.limits.held_bytes:
            self._association.drop(Dropped.WAITING)
            return
        shared.held += len(payload)
        waiting.append(payload)

    def _connect(self, address: IPAddress) -> bool:
        shared, port = self._association.shared, self.target.port
        try:
            self._sock, self._peer = shared.connect(self, address, port)
            shared.poller.watch(self._sock.fileno(), self, READ)
        except OSError:
            self._disconnect()
            return False
        if not names_an_address(self.header):
            # A client that asked for a name can only be told an address; one that gave an address knows its own words.
            self._reply_header = header_of(address, port)
        return True

    def _disconnect(self) -> None:
        sock, peer, self._sock, self._peer = self._sock, self._peer, None, None
        if sock is not None and peer is not None:
            self._association.shared.disconnect(self, sock, peer)

    # -- datagrams ---------------------------------------------------------------------------------------------------

    def _send(self, payload: memoryview | bytes) -> None:
        assert self._sock is not None
        if send(self._sock, payload):
            self.bytes_up += len(payload)
        else:
            self._association.drop(Dropped.UNSENT)
        self._association.shared.idle.add(self)

    def ready(self, events: int) -> None:
        """Takes what has arrived from the pinned address to the client, with a header that says where it is from."""
        if self._sock is None:
            return
        header = self._reply_header
        start = len(header)
        buffer = self._association.shared.poller.buffer
        buffer[:start] = header
        behind = buffer[start:]
        heard = False
        for _ in range(BATCH):
            try:
                size = self._sock.recv_into(behind)
            except BlockingIOError:
                break
            except OSError:
                continue  # nobody listens there, as an ICMP message says; somebody may later
            heard = True
            self.bytes_down += size
            self._association.reply(buffer[: start + size])
        if heard:
            self._association.shared.idle.add(self)

    def crashed(self, error: Exception) -> None:
        self.forget()


def send(sock: socket.socket, data: memoryview | bytes) -> bool:
    """Whether the kernel has taken the datagram.

    The refusal of an earlier one (ICMP) is told when the next is sent, and keeps it: that one is tried once more.
    """
    for _ in range(2):
        try:
            sock.send(data)
        except ConnectionRefusedError:
            continue
        except OSError:
            return False
        return True
    return False
