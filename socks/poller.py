"""One poller of our own inside the running event loop: thousands of sockets, one descriptor for asyncio to watch.

A batch of socket events costs the event loop one callback. On Linux the inner poller is epoll, elsewhere kqueue.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterable
from typing import Any, Protocol
from weakref import WeakSet

READ = 1  # the values of EPOLLIN, EPOLLOUT, EPOLLERR and EPOLLHUP, so that epoll needs no translation
WRITE = 4
ERROR = 8
HANGUP = 16

# One read of a socket takes at most this much, in bytes.
READ_SIZE = 256 * 1024

# One pass takes at most this many events before the event loop's other work has its turn.
BATCH = 256


class Watcher(Protocol):
    """Someone who waits for a socket."""

    def ready(self, events: int) -> None:
        """`events` is a set of READ, WRITE, ERROR and HANGUP. May be spurious: expect `BlockingIOError`."""
        ...

    def crashed(self, error: Exception) -> None:
        """`ready` raised `error`, and nothing else has happened to the socket."""
        ...


class _Backend(Protocol):
    """What epoll and kqueue have in common, level-triggered."""

    def fileno(self) -> int: ...
    def register(self, fd: int, mask: int) -> None: ...
    def modify(self, fd: int, mask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def poll(self, timeout: float, batch: int) -> Iterable[tuple[int, int]]: ...
    def close(self) -> None: ...


class Kqueue:
    """A kqueue that speaks epoll's small words. `module` stands in for `select` in tests."""

    def __init__(self, module: Any = select) -> None:
        self._select = module
        self._queue = module.kqueue()
        self._masks: dict[int, int] = {}

    def fileno(self) -> int:
        return int(self._queue.fileno())

    def register(self, fd: int, mask: int) -> None:
        self._change(fd, 0, mask)

    def modify(self, fd: int, mask: int) -> None:
        self._change(fd, self._masks.get(fd, 0), mask)

    def unregister(self, fd: int) -> None:
        self._change(fd, self._masks.get(fd, 0), 0)
        self._masks.pop(fd, None)

    def _change(self, fd: int, before: int, after: int) -> None:
        changes = [self._change_of(fd, bit, after) for bit in (READ, WRITE) if (before ^ after) & bit]
        if changes:
            self._queue.control(changes, 0, 0)
        self._masks[fd] = after

    def _change_of(self, fd: int, bit: int, after: int) -> Any:
        kernel = self._select
        kind = kernel.KQ_FILTER_READ if bit == READ else kernel.KQ_FILTER_WRITE
        return kernel.kevent(fd, kind, kernel.KQ_EV_ADD if after & bit else kernel.KQ_EV_DELETE)

    def poll(self, timeout: float, batch: int) -> Iterable[tuple[int, int]]:
        read = self._select.KQ_FILTER_READ
        # The end of the stream comes as a readable or writable event: recv and send then say what happened.
        return [(e.ident, READ if e.filter == read else WRITE) for e in self._queue.control(None, batch, timeout)]

    def close(self) -> None:
        self._queue.close()


def _backend() -> _Backend:
    return select.epoll() if hasattr(select, "epoll") else Kqueue()


class Poller:
    """Watches sockets on behalf of the running event loop. One per loop and front-end; not thread-safe.

    `buffer` is there for the watcher that is being told; it holds nothing between two calls.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_error: Callable[[Exception], None],
        backend: _Backend | None = None,
    ) -> None:
        self.buffer = memoryview(bytearray(READ_SIZE))
        self._loop = loop
        self._on_error = on_error
        self._backend = backend or _backend()
        self._watchers: dict[int, Watcher] = {}
        self._masks: dict[int, int] = {}
        self._stale: set[int] = set()
        self._closed = False
        self._poll = self._backend.poll
        _all.add(self)
        loop.add_reader(self._backend.fileno(), self._dispatch)

    def watch(self, fd: int, watcher: Watcher, mask: int) -> None:
        """From now on tells `watcher`, and nobody else, about `mask` on `fd`; 0 leaves only errors and hang-ups.

        Raises `OSError` when the kernel takes no more, and changes nothing then.
        """
        before = self._masks.get(fd)
        if before != mask:
            if before is None:
                self._backend.register(fd, mask)
            else:
                self._backend.modify(fd, mask)
            self._masks[fd] = mask
        self._watchers[fd] = watcher

    def silence(self, fd: int) -> None:
        """No events at all for `fd`, not even hang-ups, until it is watched again."""
        if self._masks.pop(fd, None) is not None:
            self._backend.unregister(fd)

    def forget(self, fd: int) -> None:
        """Ends the watch. Call it before `fd` is given away."""
        self.silence(fd)
        if self._watchers.pop(fd, None) is not None:
            self._stale.add(fd)

    def close_socket(self, sock: socket.socket) -> None:
        """Ends the watch and closes the socket, which takes it out of the kernel's list as well."""
        fd = sock.fileno()
        self._masks.pop(fd, None)
        if self._watchers.pop(fd, None) is not None:
            self._stale.add(fd)
        sock.close()

    def close(self) -> None:
        """Ends every watch. The sockets stay open. Harmless when called again."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._backend.fileno())
            self._backend.close()
        self._watchers.clear()
        self._masks.clear()

    def let_go(self, null: int) -> None:
        """For a child after a fork: nothing that is watched is held open by it. `null` takes each one's place."""
        for fd in self._watchers:
            os.dup2(null, fd, inheritable=False)

    def _dispatch(self) -> None:
        # A descriptor closed earlier in this batch may already belong to a new socket, for which these events are not
        # meant. It loses nothing: what is still true is reported again in the next batch.
        stale = self._stale
        stale.clear()
        watchers = self._watchers
        for fd, events in self._poll(0, BATCH):
            watcher = None if fd in stale else watchers.get(fd)
            if watcher is not None:
                try:
                    watcher.ready(events)
                except Exception as error:
                    self._contain(watcher, error)

    def _contain(self, watcher: Watcher, error: Exception) -> None:
        """An error ends one connection, never the loop over the others."""
        with contextlib.suppress(Exception):
            self._on_error(error)
        with contextlib.suppress(Exception):
            watcher.crashed(error)


_all: WeakSet[Poller] = WeakSet()


def _let_go() -> None:
    """What the parent closes ends for its peer, and leaves the kernel's list, only when no child has a copy of it."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for poller in _all:
        poller.let_go(null)
    os.close(null)


os.register_at_fork(after_in_child=_let_go)
