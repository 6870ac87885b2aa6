"""Dials exactly the given addresses, in order, with a head start for each (in the way of RFC 8305)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from .deadlines import Deadlines
from .poller import WRITE, Watcher

IPAddress = IPv4Address | IPv6Address

# After this many seconds without an answer the next address is tried as well.
FALLBACK = 0.25
# All attempts of one dial end after this many seconds.
LIMIT = 10.0


class DialFailure(StrEnum):
    """Why no address could be reached, the most telling first. The value is a text for the client."""

    REFUSED = "connection refused"
    TIMED_OUT = "connection timed out"
    HOST_UNREACHABLE = "host unreachable"
    NETWORK_UNREACHABLE = "network unreachable"
    OTHER = "could not connect"


_FAILURES = {
    errno.ECONNREFUSED: DialFailure.REFUSED,
    errno.ECONNRESET: DialFailure.REFUSED,
    errno.ETIMEDOUT: DialFailure.TIMED_OUT,
    errno.EHOSTUNREACH: DialFailure.HOST_UNREACHABLE,
    errno.EHOSTDOWN: DialFailure.HOST_UNREACHABLE,
    errno.ENETUNREACH: DialFailure.NETWORK_UNREACHABLE,
    errno.ENETDOWN: DialFailure.NETWORK_UNREACHABLE,
    errno.EADDRNOTAVAIL: DialFailure.NETWORK_UNREACHABLE,
}
_BY_WEIGHT = tuple(DialFailure)
_CONNECTED = frozenset({0, errno.EISCONN})
_UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EALREADY})

Dialled = socket.socket | DialFailure
SocketAddress = tuple[str, int] | tuple[str, int, int, int]
_LAST_INTERFACE = (1 << 32) - 1
_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)  # saves a system call where it exists


class Watches(Protocol):
    """The part of a poller that dialling needs."""

    def watch(self, fd: int, watcher: Watcher, mask: int) -> None: ...

    def close_socket(self, sock: socket.socket) -> None: ...


class _Attempt:
    """One address of a dial."""

    __slots__ = ("dial", "fd", "sock")

    def __init__(self, dial: Dial, sock: socket.socket) -> None:
        self.dial = dial
        self.sock = sock
        self.fd = sock.fileno()

    def ready(self, events: int) -> None:
        self.dial.settle(self, self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def crashed(self, error: Exception) -> None:
        self.dial.finish(DialFailure.OTHER)


class Dial:
    """One attempt to reach one of the addresses, until it succeeds, fails, or is cancelled."""

    __slots__ = ("_addresses", "_attempts", "_failures", "_on_done", "_port", "_shared", "_tried")

    def __init__(
        self,
        shared: Dialler,
        addresses: Sequence[IPAddress],
        port: int,
        on_done: Callable[[Dialled], None],
    ) -> None:
        self._shared = shared
        self._addresses = addresses
        self._tried = 0
        self._port = port
        self._on_done: Callable[[Dialled], None] | None = on_done
        self._attempts: list[_Attempt] = []
        self._failures: list[DialFailure] = []

    @property
    def done(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._on_done is None

    def proceed(self) -> None:
        """Tries the next address; ends the dial when there is none left and none under way."""
        while self._tried < len(self._addresses):
            self._tried += 1
            outcome = self._attempt(self._addresses[self._tried - 1])
            if outcome is None:
                return
            if isinstance(outcome, socket.socket):
                self.finish(outcome)
                return
            self._failures.append(outcome)
        if not self._attempts:
            self.finish(min(self._failures, key=_BY_WEIGHT.index, default=DialFailure.OTHER))

    def settle(self, attempt: _Attempt, error: int) -> None:
        """The kernel has the outcome of `attempt`: `error` is an errno, 0 for a connection."""
        self._attempts.remove(attempt)
        error = error or met_itself(attempt.sock, self._port)
        if error == 0:
            self.finish(attempt.sock)
            return
        self._shared.poller.close_socket(attempt.sock)
        self._failures.append(_FAILURES.get(error, DialFailure.OTHER))
        self.proceed()

    def finish(self, outcome: Dialled) -> None:
        on_done = self._on_done
        self.cancel()
        if on_done is not None:
            on_done(outcome)

    def cancel(self) -> None:
        """Ends every attempt; `on_done` is not called any more. Harmless when called again."""
        self._on_done = None  # who is told often holds this dial: no cycle is left for the garbage collector
        self._shared.release(self)
        for attempt in self._attempts:
            self._shared.poller.close_socket(attempt.sock)
        self._attempts.clear()

    def _attempt(self, address: IPAddress) -> Dialled | None:
        """Starts to connect: the outcome when it is known at once, as it mostly is for this machine's own addresses."""
        try:
            sock, sockaddr = _socket_for(address, self._port)
        except OSError as error:
            return _FAILURES.get(error.errno or 0, DialFailure.OTHER)
        code = sock.connect_ex(sockaddr)
        if code == errno.EINPROGRESS:
            code = sock.connect_ex(sockaddr)
        if code in _CONNECTED:
            code = met_itself(sock, self._port)
            if code == 0:
                return sock
        if code not in _UNDER_WAY:
            sock.close()
            return _FAILURES.get(code, DialFailure.OTHER)
        try:
            self._wait_for(_Attempt(self, sock))
        except OSError as error:
            sock.close()
            return failure_of(error)
        return None

    def _wait_for(self, attempt: _Attempt) -> None:
        self._shared.poller.watch(attempt.fd, attempt, WRITE)
        self._attempts.append(attempt)
        if self._tried < len(self._addresses):
            self._shared.stagger(self)


def _socket_for(address: IPAddress, port: int) -> tuple[socket.socket, SocketAddress]:
    """A fresh non-blocking socket and where to point it. Never asks a resolver."""
    family, sockaddr = place(address, port)
    sock = socket.socket(family, socket.SOCK_STREAM | _NONBLOCK)
    if not _NONBLOCK:
        sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock, sockaddr


# Programs come back to the same few addresses, and spelling one out costs more than looking it up.
_text = lru_cache(maxsize=1024)(str)


def place(address: IPAddress, port: int) -> tuple[socket.AddressFamily, SocketAddress]:
    """The address as sockets take it, and their family. Raises `OSError` for a zone that is no interface of ours."""
    if not isinstance(address, IPv6Address):
        return socket.AF_INET, (_text(address), port)
    host, _, zone = _text(address).partition("%")
    return socket.AF_INET6, (host, port, 0, _scope(zone))


def met_itself(sock: socket.socket, port: int) -> int:
    """An errno when the kernel picked the target, on `port`, for the socket's own address as well: it met itself.

    Happens now and then on this machine's own addresses; TCP calls it a simultaneous open (RFC 9293 section 3.5).
    """
    try:
        own = sock.getsockname()
        return errno.ECONNREFUSED if own[1] == port and own == sock.getpeername() else 0
    except OSError:  # connected, and reset already: whoever uses it will see
        return 0


def _scope(zone: str) -> int:
    """The interface number of a zone id, 0 without one. Raises `OSError` for an unknown interface."""
    if not zone or zone.isdecimal():
        number = int(zone or 0)
        if number > _LAST_INTERFACE:  # which sockets would not take, with an error that is none of the system's
            raise OSError(errno.ENXIO, "no such interface")
        return number
    return socket.if_nametoindex(zone)


class Dialler:
    """Dials on one poller; its two timers serve every dial."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, poller: Watches, *, fallback: float = FALLBACK, limit: float = LIMIT
    ) -> None:
        self.poller = poller
        self._staggered: Deadlines[Dial] = Deadlines(loop, fallback, Dial.proceed)
        self._limited: Deadlines[Dial] = Deadlines(loop, limit, lambda dial: dial.finish(DialFailure.TIMED_OUT))

    def dial(self, addresses: Sequence[IPAddress], port: int, on_done: Callable[[Dialled], None]) -> Dial:
        """Connects to one of `addresses`; `on_done` gets the socket or the failure, possibly before this returns.

        The poller may still watch the socket: whoever gets it watches it in turn, or has it closed by the poller.
        """
        dial = Dial(self, addresses, port, on_done)
        dial.proceed()
        if not dial.done:
            self._limited.add(dial)
        return dial

    def stagger(self, dial: Dial) -> None:
        self._staggered.add(dial)

    def release(self, dial: Dial) -> None:
        self._staggered.discard(dial)
        self._limited.discard(dial)

    def close(self) -> None:
        self._staggered.close()
        self._limited.close()


def failure_of(error: OSError) -> DialFailure:
    """The failure that an error of the system means."""
    return _FAILURES.get(error.errno or 0, DialFailure.OTHER)


class DialError(Exception):
    """No address could be reached; the text is fit for the client."""

    def __init__(self, failure: DialFailure) -> None:
        super().__init__(failure.value)
        self.failure = failure


async def dial(
    addresses: Sequence[IPAddress], port: int, *, fallback: float = FALLBACK, limit: float = LIMIT
) -> socket.socket:
    """`Dialler.dial` for code that awaits. Raises `DialError`; a cancelled wait leaves no socket behind."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Dialled] = loop.create_future()
    watches = _LoopWatches(loop)
    dialler = Dialler(loop, watches, fallback=fallback, limit=limit)
    attempt = dialler.dial(addresses, port, outcome.set_result)
    try:
        dialled = await outcome
    except asyncio.CancelledError:
        if not outcome.cancelled() and isinstance(late := outcome.result(), socket.socket):
            watches.close_socket(late)
        raise
    finally:
        attempt.cancel()
        dialler.close()
    if isinstance(dialled, DialFailure):
        raise DialError(dialled)
    loop.remove_writer(dialled.fileno())
    return dialled


class _LoopWatches:
    """The event loop itself in the poller's place, for a dial now and then."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def watch(self, fd: int, watcher: Watcher, mask: int) -> None:
        self._loop.add_writer(fd, watcher.ready, mask)

    def close_socket(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock.fileno())
        sock.close()
