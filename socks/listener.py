"""A listening socket on our own poller: binds with a clear error, accepts in batches, survives running out of files."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
from collections.abc import Callable

from .poller import READ, Poller

BACKLOG = 4096
ACCEPT_BATCH = 64
# While the process is out of descriptors, accepting pauses for this many seconds.
OUT_OF_FILES_PAUSE = 0.1

_OUT_OF_SOMETHING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_DESCRIPTORS_ENOUGH = 1 << 20

_REASONS = {
    errno.EADDRINUSE: "is in use by another program",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
    errno.EACCES: "may not be used by this user",
}


def bind(host: str, port: int) -> socket.socket:
    """A non-blocking listening socket; port 0 picks a free one. Raises `OSError` with a text for people."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Accepted sockets inherit it, which saves a system call for each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        reason = _REASONS.get(error.errno or 0, error.strerror or "cannot be used")
        raise OSError(error.errno, f"{address_text((host, port))} {reason}") from error
    return sock


def address_text(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """`127.0.0.1:3128` or `[::1]:3128`."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def raise_descriptor_limit() -> None:
    """Lets this process open as many sockets as the system grants without asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    # macOS reports no limit but refuses more than a number of its own.
    for wanted in (_DESCRIPTORS_ENOUGH if unlimited else min(hard, _DESCRIPTORS_ENOUGH), 65536, 10240):
        if soft == resource.RLIM_INFINITY or wanted <= soft:
            return
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


class Listener:
    """Hands each client's socket, non-blocking and without small-packet delay, and its `ip:port` to `accepted`.

    Owns `sock`. Raises `OSError`; then that is closed.
    """

    def __init__(self, poller: Poller, sock: socket.socket, accepted: Callable[[socket.socket, str], None]) -> None:
        self._poller = poller
        self._sock = sock
        self._fd = sock.fileno()
        self._accepted = accepted
        self._pause: asyncio.TimerHandle | None = None
        try:
            poller.watch(self._fd, self, READ)
        except OSError:
            sock.close()
            raise

    @property
    def address(self) -> tuple[str, int]:
        """As bound."""
        host, port = self._sock.getsockname()[:2]
        return host, port

    def ready(self, events: int) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                sock, peer = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_SOMETHING:
                    self._wait_for_descriptors()
                    return
                continue  # this one client gave up before it was accepted
            sock.setblocking(False)
            self._accepted(sock, address_text(peer))

    def crashed(self, error: Exception) -> None:
        """One connection could not be taken; the listener stays."""

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._poller.close_socket(self._sock)

    def _wait_for_descriptors(self) -> None:
        self._poller.watch(self._fd, self, 0)
        self._pause = asyncio.get_running_loop().call_later(OUT_OF_FILES_PAUSE, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._poller.watch(self._fd, self, READ)
