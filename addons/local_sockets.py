"""Unix sockets of this machine: which file a path leads to, and a connection to exactly that file (spec A9)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import threading
from collections.abc import Callable
from functools import partial

from codex_network_proxy.policy.interfaces import SocketFiles
from codex_network_proxy.policy.unix_sockets import SocketFile, SocketRules
from codex_network_proxy.socks.dialler import DialError, DialFailure, failure_of

from .lookup_threads import LookupThreads

SERVED_ON = "darwin"
"""Where `x-unix-socket` is served; everywhere else the answer is `501`, as with the reference."""

LOOK_LIMIT = 2.0
"""Seconds that a look at the file system may take."""

GLANCE_LIMIT = 0.1
"""Seconds that the event loop itself waits for one, when a policy changes under open connections."""

DIAL_LIMIT = 10.0
"""Seconds until a socket whose queue is full counts as a failed one."""

RETRY = 0.05
"""Seconds between two attempts at a full queue."""


class FileSystem:
    """Implements `SocketFiles`."""

    def look_up(self, path: str) -> SocketFile:
        """Every symlink followed; a file that is not there has no identity. Raises `OSError` for anything unclear."""
        real = os.path.realpath(path)
        if not real.isprintable():
            raise OSError(f"not a printable path: {real!r}")
        try:
            found = os.lstat(real)
        except (FileNotFoundError, NotADirectoryError):
            return SocketFile(path, real, None)
        if stat.S_ISLNK(found.st_mode):
            raise OSError(f"a link that leads in a circle, or was just put there: {real!r}")
        return SocketFile(path, real, (found.st_dev, found.st_ino))


class LocalSockets:
    """Finds and dials sockets without making the event loop wait: a file system may hang. Implements `SocketFinder`.

    `own` are sockets of the proxy itself, which no rule opens.
    """

    def __init__(self, files: SocketFiles | None = None, threads: LookupThreads | None = None) -> None:
        self._files = files or FileSystem()
        self._threads = threads or LookupThreads()
        self._late: threading.Event | None = None  # set when the last look that took too long has come to its end
        self.own: set[str] = set()

    async def find(self, rules: SocketRules, path: str) -> SocketFile | None:
        """What the path leads to, if the rules permit it; nothing also when the file system fails or is late."""
        look = partial(rules.but(self.own).find, path, self._files)
        return await self._in_thread(look, LOOK_LIMIT, lambda found: None)

    def permit(self, rules: SocketRules, found: SocketFile) -> bool:
        """See `SocketFinder`. Looks at paths of the configuration only. What cannot be told soon is not permitted."""
        if self._late is not None and not self._late.is_set():
            return False  # the event loop waits for one that hangs, and not again for each open connection
        look = partial(rules.but(self.own).permit, found, self._files)
        told, permitted = threading.Event(), [False]

        def work() -> None:
            with contextlib.suppress(Exception):
                permitted[0] = look()
            told.set()

        if not self._threads.submit(work):
            return False
        if not told.wait(GLANCE_LIMIT):
            self._late = told
            return False
        return permitted[0]

    async def dial(self, file: SocketFile) -> socket.socket:
        """A non-blocking connection to the very file that was found. Raises `DialError`."""
        try:
            async with asyncio.timeout(DIAL_LIMIT):
                while True:
                    dialled = await self._in_thread(partial(_attempt, file), DIAL_LIMIT, _discard)
                    if isinstance(dialled, socket.socket):
                        return dialled
                    if not isinstance(dialled, BlockingIOError):
                        raise DialError(failure_of(dialled) if dialled else DialFailure.OTHER)
                    await asyncio.sleep(RETRY)
        except TimeoutError:
            raise DialError(DialFailure.TIMED_OUT) from None

    def close(self) -> None:
        """Ends idle threads; later looks find nothing."""
        self._threads.close()

    async def _in_thread[T](self, job: Callable[[], T], limit: float, discard: Callable[[T], None]) -> T | None:
        """The result of the job; nothing when it raised or took too long, and then `discard` gets the late result."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T | None] = loop.create_future()

        def arrived(result: T | None) -> None:
            if not outcome.done():
                outcome.set_result(result)
            elif result is not None:
                discard(result)

        def work() -> None:
            result: T | None = None
            with contextlib.suppress(Exception):  # closed by default: what no rule foresaw is nothing
                result = job()
            try:
                loop.call_soon_threadsafe(arrived, result)
            except RuntimeError:  # the loop has ended meanwhile
                if result is not None:
                    discard(result)

        if not self._threads.submit(work):
            return None
        try:
            async with asyncio.timeout(limit):
                return await outcome
        except BaseException as error:
            if outcome.done() and not outcome.cancelled() and (late := outcome.result()) is not None:
                discard(late)  # it came in the very moment in which nobody waited any more
            if isinstance(error, TimeoutError):
                return None
            raise


def _attempt(file: SocketFile) -> socket.socket | OSError:
    try:
        return connect(file)
    except OSError as error:
        return error


def _discard(dialled: socket.socket | OSError) -> None:
    if isinstance(dialled, socket.socket):
        dialled.close()


def connect(file: SocketFile) -> socket.socket:
    """Connects to `file` and makes sure that it was this one: nobody can hold a path still between look and use.

    Raises `OSError`: among others when the file is no socket or another one by now. What remains is whoever can
    exchange the file and put the old one back between two calls; such a person owns the folder and could as well
    have put a socket of its own there.
    """
    _insist(file)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(file.real)
        _insist(file)
    except BaseException:
        sock.close()
        raise
    return sock


def _insist(file: SocketFile) -> None:
    found = os.lstat(file.real)
    if not stat.S_ISSOCK(found.st_mode) or (found.st_dev, found.st_ino) != file.identity:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "not the socket that was found")
