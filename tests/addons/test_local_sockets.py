"""Paths to sockets and back: every link followed, and the file that was judged is the file that is dialled (L05)."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from codex_network_proxy.addons import local_sockets
from codex_network_proxy.addons.local_sockets import FileSystem, LocalSockets, connect
from codex_network_proxy.addons.lookup_threads import LookupThreads
from codex_network_proxy.policy.unix_sockets import SocketFile, SocketRules
from codex_network_proxy.socks.dialler import DialError, DialFailure
from tests.kit.short_paths import short_folder

OTHER = "other.sock"


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture
def listener(folder: Path) -> Iterator[socket.socket]:
    """A socket at `folder/a.sock` with room for one client in its queue."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "a.sock"))
        listening.listen(0)
        yield listening


def identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def test_links_are_followed_to_the_file(folder: Path, listener: socket.socket) -> None:
    target = folder / "a.sock"
    (folder / "sub").symlink_to(folder)
    (folder / "link").symlink_to("sub/a.sock")
    for path in (target, folder / "link", folder / "sub" / "a.sock", folder / "sub" / "link"):
        assert FileSystem().look_up(str(path)) == SocketFile(str(path), str(target), identity(target))


@pytest.mark.parametrize("name", ["missing", "a.sock/below"])
def test_a_file_that_is_not_there_has_no_identity(folder: Path, listener: socket.socket, name: str) -> None:
    path = str(folder / name)
    assert FileSystem().look_up(path) == SocketFile(path, path, None)


def loop(folder: Path) -> None:
    (folder / "x").symlink_to(folder / "x")


def control_character(folder: Path) -> None:
    (folder / "a\nb").touch()
    (folder / "x").symlink_to(folder / "a\nb")


def not_text(folder: Path) -> None:
    os.symlink(b"\xff.sock", os.fsencode(folder / "x"))


@pytest.mark.parametrize("arrange", [loop, control_character, not_text])
def test_what_is_unclear_is_an_error(folder: Path, arrange: Callable[[Path], None]) -> None:
    arrange(folder)
    with pytest.raises(OSError, match=r"link|printable"):
        FileSystem().look_up(str(folder / "x"))


def test_the_socket_that_was_found_is_dialled(folder: Path, listener: socket.socket) -> None:
    async def run() -> None:
        sockets = LocalSockets()
        path = str(folder / "a.sock")
        found = await sockets.find(SocketRules((path,)), path)
        assert found is not None
        with await sockets.dial(found) as dialled, listener.accept()[0] as accepted:
            assert not dialled.getblocking()
            dialled.send(b"hello")
            assert accepted.recv(5) == b"hello"
        sockets.close()
        assert await sockets.find(SocketRules((path,)), path) is None, "closed"

    asyncio.run(run())


def gone(path: Path) -> None:
    path.unlink()


def replaced_by_a_file(path: Path) -> None:
    path.unlink()
    path.touch()


def replaced_by_a_link(path: Path) -> None:
    path.rename(path.with_name("old"))
    path.symlink_to(OTHER)


def replaced_by_another(path: Path) -> None:
    path.rename(path.with_name("old"))
    path.with_name(OTHER).rename(path)


@pytest.mark.parametrize("swap", [gone, replaced_by_a_file, replaced_by_a_link, replaced_by_another])
def test_a_file_that_was_exchanged_is_not_dialled(
    folder: Path, listener: socket.socket, swap: Callable[[Path], None]
) -> None:
    path = folder / "a.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / OTHER))
        other.listen(1)
        other.setblocking(False)
        found = FileSystem().look_up(str(path))
        swap(path)
        with pytest.raises(OSError, match=r"not the socket|No such file"):
            connect(found)
        with pytest.raises(BlockingIOError):
            other.accept()


def test_a_file_that_is_exchanged_during_the_dial_is_not_used(
    folder: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / OTHER))
        other.listen(1)

        class Swapping(socket.socket):
            def connect(self, address: object) -> None:
                replaced_by_another(path)
                super().connect(str(address))

        found = FileSystem().look_up(str(path))
        monkeypatch.setattr(socket, "socket", Swapping)
        with pytest.raises(ConnectionRefusedError, match="not the socket"):
            connect(found)
        with other.accept()[0] as accepted:
            assert accepted.recv(1) == b"", "closed before anything was sent"


def test_a_file_that_was_missing_is_not_dialled_when_it_appears(folder: Path) -> None:
    found = FileSystem().look_up(str(folder / "late.sock"))
    with socket.socket(socket.AF_UNIX) as late:
        late.bind(str(folder / "late.sock"))
        late.listen(1)
        with pytest.raises(ConnectionRefusedError):
            connect(found)


def test_a_full_queue_is_waited_for(folder: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux says that a queue is full, where macOS refuses."""
    waited: list[float] = []

    async def make_room(seconds: float) -> None:
        waited.append(seconds)
        listener.accept()[0].close()

    async def run() -> None:
        sockets = LocalSockets()
        found = FileSystem().look_up(str(folder / "a.sock"))
        with await sockets.dial(found):
            if os.uname().sysname != "Linux":
                return
            monkeypatch.setattr(asyncio, "sleep", make_room)
            (await sockets.dial(found)).close()
            assert waited == [local_sockets.RETRY]

    asyncio.run(run())


def test_a_queue_that_stays_full_is_a_timeout(
    folder: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_sockets, "_attempt", lambda file: BlockingIOError())
    monkeypatch.setattr(local_sockets, "DIAL_LIMIT", 0)

    async def run() -> None:
        with pytest.raises(DialError) as failed:
            await LocalSockets().dial(FileSystem().look_up(str(folder / "a.sock")))
        assert failed.value.failure is DialFailure.TIMED_OUT

    asyncio.run(run())


def test_a_refused_dial_says_so(folder: Path, listener: socket.socket) -> None:
    listener.close()

    async def run() -> None:
        with pytest.raises(DialError) as failed:
            await LocalSockets().dial(FileSystem().look_up(str(folder / "a.sock")))
        assert failed.value.failure is DialFailure.REFUSED

    asyncio.run(run())


def test_a_connection_that_comes_too_late_is_closed(folder: Path, listener: socket.socket) -> None:
    """The client has gone while the dial was under way in its thread."""
    found = FileSystem().look_up(str(folder / "a.sock"))
    started, let_go = threading.Event(), threading.Event()

    async def run() -> None:
        sockets = LocalSockets()

        def drop(sock: socket.socket | None) -> None:
            assert sock is not None
            sock.close()

        def slow() -> socket.socket:
            started.set()
            let_go.wait()
            return connect(found)

        waiting = asyncio.create_task(sockets._in_thread(slow, 10.0, drop))
        await asyncio.to_thread(started.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        let_go.set()
        accepted = (await asyncio.to_thread(listener.accept))[0]
        with accepted:
            assert await asyncio.to_thread(accepted.recv, 1) == b""

    asyncio.run(run())


class InHand:
    """Threads whose work is done when the test says."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], None]) -> bool:
        self.jobs.append(job)
        return True


def test_a_connection_that_comes_in_the_moment_of_the_end_is_closed(folder: Path, listener: socket.socket) -> None:
    async def run() -> None:
        path, threads = folder / "a.sock", InHand()
        sockets = LocalSockets(threads=cast(LookupThreads, threads))
        waiting = asyncio.create_task(sockets.dial(SocketFile(str(path), str(path), identity(path))))
        await asyncio.sleep(0)
        threads.jobs[0]()
        await asyncio.sleep(0)  # the result is there; who waits for it has its turn after us
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())  # that nobody closed it would be a warning


def test_no_rule_opens_a_socket_of_the_proxy_itself(folder: Path, listener: socket.socket) -> None:
    path = str(folder / "a.sock")
    (folder / "link").symlink_to(path)

    async def run() -> None:
        sockets, rules = LocalSockets(), SocketRules((path,), allow_all=True)
        found = await sockets.find(rules, path)
        assert found is not None
        sockets.own.add(path)
        assert await sockets.find(rules, path) is None
        assert await sockets.find(rules, str(folder / "link")) is None
        assert not sockets.permit(rules, found)

    asyncio.run(run())
