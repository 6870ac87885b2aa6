"""UDP ASSOCIATE: one relay socket for each client, open as long as its TCP connection is (RFC 1928 section 7)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from .addressing import IPAddress
from .datagrams import Dropped, header_size
from .deadlines import Deadlines
from .poller import READ, Poller
from .udp_destination import BATCH, Destination, send
from .udp_sockets import Sender, bound, connected, out_of_descriptors, plain

# What a client may send over its TCP connection meanwhile, in bytes; nothing belongs there.
CONTROL_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class UdpLimits:
    """How much the associations of a door may take. Times in seconds."""

    destinations: int = 256  # of one association; the one unused for longest makes room
    judging: int = 32  # destinations of one association without a decision; datagrams to more are dropped
    held: int = 16  # datagrams that wait for the decision on one destination; the oldest makes room
    held_bytes: int = 1 << 24  # all datagrams that wait
    sockets: int = 8192  # destinations of all associations that datagrams are sent to; as above
    idle_seconds: float = 60.0  # without a datagram, a destination is forgotten; before the first one, an association
    retry_seconds: float = 5.0  # until a destination that could not be reached is judged anew


class Judge(Protocol):
    """Who decides for one client. Knows the policy, which the relay does not."""

    def judge(self, destination: Destination) -> None:
        """Calls `allow`, `deny` or `fail` of the destination, now or later."""
        ...

    def forgotten(self, destination: Destination) -> None:
        """Nothing goes there any more, until it is judged again. Called once."""
        ...

    def closed(self, association: Association) -> None:
        """The association has ended, and each of its destinations was forgotten. Called once."""
        ...


class Shared:
    """What the associations of one door have in common."""

    def __init__(self, loop: asyncio.AbstractEventLoop, poller: Poller, limits: UdpLimits) -> None:
        self.poller = poller
        self.limits = limits
        self.sockets = 0
        self.held = 0
        self._relays: set[Sender] = set()
        self._pinned: dict[Sender, set[Destination]] = {}
        self.idle: Deadlines[Destination] = Deadlines(loop, limits.idle_seconds, Destination.forget)
        self.denied: Deadlines[Destination] = Deadlines(loop, limits.idle_seconds, Destination.forget)
        self.failed: Deadlines[Destination] = Deadlines(loop, limits.retry_seconds, Destination.forget)
        self.silent: Deadlines[Association] = Deadlines(loop, limits.idle_seconds, Association.close)

    def close(self) -> None:
        """Ends the time limits. Close every association first."""
        for deadlines in (self.idle, self.denied, self.failed, self.silent):
            deadlines.close()

    def relay_opened(self, address: Sender) -> None:
        """Nothing goes to a relay of ours from here, nor what went to its port before it was one."""
        self._relays.add(address)
        for destination in list(self._pinned.get(address, ())):
            destination.forget()

    def relay_closed(self, address: Sender) -> None:
        self._relays.discard(address)

    def connect(self, destination: Destination, address: IPAddress, port: int) -> tuple[socket.socket, Sender]:
        """A socket to an address, and that address as the kernel sees it. Raises `OSError`.

        Where there is no room for one more, the socket that was unused for longest makes room.
        """
        try:
            sock = self._connected(address, port)
        except OSError as error:
            unused = self.idle.oldest
            if error.errno != errno.EMFILE or unused is None:
                raise
            unused.forget()
            sock = self._connected(address, port)
        peer = plain(sock.getpeername())[:2]
        if peer in self._relays:
            sock.close()
            raise ConnectionRefusedError
        self.sockets += 1
        self._pinned.setdefault(peer, set()).add(destination)
        return sock, peer

    def disconnect(self, destination: Destination, sock: socket.socket, peer: Sender) -> None:
        """Closes what `connect` has returned."""
        self.poller.close_socket(sock)
        self.sockets -= 1
        self._pinned[peer].discard(destination)
        if not self._pinned[peer]:
            del self._pinned[peer]

    def _connected(self, address: IPAddress, port: int) -> socket.socket:
        if self.sockets >= self.limits.sockets:
            raise out_of_descriptors()
        return connected(address, port)


class Association:
    """One client's relay. Owns the TCP connection that it was asked for on, and ends with it.

    Takes datagrams from that client's address only, and from the first of its ports that sends one: `claimed` is the
    port that it has announced, 0 for any.
    """

    __slots__ = (
        "_claimed", "_client", "_control", "_control_left", "_destinations", "_judge", "_peer_host", "_relay",
        "address", "dropped", "judging", "open", "shared",
    )  # fmt: skip

    def __init__(self, shared: Shared, control: socket.socket, claimed: int, judge: Judge) -> None:
        """Raises `OSError` when there is no socket to be had; `control` is the caller's then."""
        self.shared = shared
        self.judging = 0
        self.dropped: Counter[Dropped] = Counter()
        self.open = True
        self._control = control
        self._control_left = CONTROL_LIMIT
        self._peer_host = plain(control.getpeername())[0]
        self._claimed = claimed
        self._client: Sender | None = None
        self._judge = judge
        self._destinations: dict[bytes, Destination] = {}  # the one used last comes last
        self._relay = bound(plain(control.getsockname()))
        host, port = self._relay.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)
        shared.relay_opened(self.address)

    def start(self, reply: bytes) -> None:
        """Sends `reply` over the TCP connection, and begins to relay. Raises `OSError`; then it is closed."""
        poller = self.shared.poller
        try:
            poller.watch(self._relay.fileno(), self, READ)
            poller.watch(self._control.fileno(), _Control(self), READ)
        except OSError:
            self.close()
            raise
        self.shared.silent.add(self)
        if not send(self._control, reply):
            self.close()

    @property
    def destinations(self) -> list[Destination]:
        """All that are remembered: open, denied, or without a decision yet."""
        return list(self._destinations.values())

    def close(self) -> None:
        """Closes every socket, also the TCP connection. Harmless when called again."""
        if not self.open:
            return
        self.open = False
        self.shared.silent.discard(self)
        self.shared.relay_closed(self.address)
        self.shared.poller.close_socket(self._relay)
        self.shared.poller.close_socket(self._control)
        for destination in self.destinations:
            destination.forget()
        self._judge.closed(self)

    # -- from the client ---------------------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        """Takes what the client has sent."""
        buffer = self.shared.poller.buffer
        for _ in range(BATCH):
            if not self.open:
                return
            try:
                size, sender = self._relay.recvfrom_into(buffer)
            except BlockingIOError:
                return
            except OSError:
                continue  # the client's socket is gone, as an ICMP message says; it may come back
            if self._is_client(sender):
                self._take(buffer[:size], sender)
            else:
                self.drop(Dropped.FOREIGN)

    def crashed(self, error: Exception) -> None:
        self.close()

    def control_ready(self) -> None:
        """The TCP connection has ended, or carries what it should not: the bytes are dropped."""
        try:
            size = self._control.recv_into(self.shared.poller.buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        self._control_left -= size
        if not size or self._control_left < 0:
            self.close()

    def drop(self, why: Dropped) -> None:
        self.dropped[why] += 1

    def reply(self, datagram: memoryview) -> None:
        """Passes a datagram on to the client, which has sent one before."""
        if not send(self._relay, datagram):
            self.drop(Dropped.UNSENT)

    def forgotten(self, destination: Destination) -> None:
        if self._destinations.get(destination.header) is destination:
            del self._destinations[destination.header]
            self._judge.forgotten(destination)

    def _is_client(self, sender: Sender) -> bool:
        if self._client is not None:
            return sender == self._client
        return sender[0] == self._peer_host and self._claimed in (0, sender[1])

    def _take(self, datagram: memoryview, sender: Sender) -> None:
        size = header_size(datagram)
        if isinstance(size, Dropped):
            self.drop(size)
            return
        if self._client is None:
            self._settle_on(sender)
        header, payload = bytes(datagram[:size]), datagram[size:]
        destination = self._destinations.pop(header, None)
        if destination is not None:
            self._destinations[header] = destination
            destination.take(payload)
        else:
            self._begin(header, payload)

    def _settle_on(self, client: Sender) -> None:
        self._client = client
        self.shared.silent.discard(self)
        with contextlib.suppress(OSError):
            # From now on nobody else can fill the socket's buffer; what is in it already is checked one by one.
            self._relay.connect(client)

    def _begin(self, header: bytes, payload: memoryview) -> None:
        limits = self.shared.limits
        if self.judging >= limits.judging:
            self.drop(Dropped.WAITING)
        elif len(self._destinations) >= limits.destinations and not self._make_room():
            self.drop(Dropped.CROWDED)
        else:
            self.judging += 1
            destination = self._destinations[header] = Destination(self, header)
            destination.take(payload)
            self._judge.judge(destination)

    def _make_room(self) -> bool:
        # A decision that is under way is waited for: starting ever new ones would have no bound.
        found = next((one for one in self._destinations.values() if not one.judging), None)
        if found is not None:
            found.forget()
        return found is not None


class _Control:
    """Watches the TCP connection of an association."""

    __slots__ = ("_association",)

    def __init__(self, association: Association) -> None:
        self._association = association

    def ready(self, events: int) -> None:
        self._association.control_ready()

    def crashed(self, error: Exception) -> None:
        self._association.close()
