"""File systems that hang or refuse, and no thread to ask them: nothing is found, and nobody waits."""

from __future__ import annotations

import asyncio
import threading

import pytest

from codex_network_proxy.addons import local_sockets
from codex_network_proxy.addons.local_sockets import LocalSockets
from codex_network_proxy.addons.lookup_threads import LookupThreads
from codex_network_proxy.policy.unix_sockets import SocketFile, SocketRules
from codex_network_proxy.socks.dialler import DialError, DialFailure

PATIENCE = 60.0
"""Seconds after which a wait has failed."""


class Hanging:
    """A file system that answers when it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.asked = threading.Event()

    def look_up(self, path: str) -> SocketFile:
        self.asked.set()
        self.free.wait()
        return SocketFile(path, path, (1, 1))


def test_a_file_system_that_hangs_finds_nothing_and_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_sockets, "LOOK_LIMIT", 0)
    files = Hanging()

    async def run() -> None:
        assert await LocalSockets(files).find(SocketRules(("/a",)), "/a") is None

    asyncio.run(run())
    files.free.set()


def test_without_a_thread_nothing_is_found_and_nothing_is_dialled() -> None:
    threads = LookupThreads()
    threads.close()

    async def run() -> None:
        sockets = LocalSockets(threads=threads)
        assert await sockets.find(SocketRules(("/a",)), "/a") is None
        with pytest.raises(DialError) as failed:
            await sockets.dial(SocketFile("/a", "/a", (1, 1)))
        assert failed.value.failure is DialFailure.OTHER

    asyncio.run(run())


class Refusing:
    def look_up(self, path: str) -> SocketFile:
        raise PermissionError(path)


def test_an_open_connection_does_not_stand_when_it_cannot_be_told() -> None:
    found = SocketFile("/a", "/a", (1, 1))
    assert LocalSockets(Refusing()).permit(SocketRules(("/a",)), found)
    assert not LocalSockets(Refusing()).permit(SocketRules(("/a",), denied=("/b",)), found)


def test_open_connections_wait_once_for_a_file_system_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_sockets, "GLANCE_LIMIT", 0)
    files, rules, found = Hanging(), SocketRules(("/a",)), SocketFile("/b", "/b", (1, 1))
    sockets = LocalSockets(files)
    assert not sockets.permit(rules, found)
    assert files.asked.wait(PATIENCE)
    files.asked.clear()
    monkeypatch.setattr(local_sockets, "GLANCE_LIMIT", PATIENCE)
    assert not sockets.permit(rules, found)
    assert not files.asked.is_set(), "nobody looks again"
    files.free.set()
    assert sockets._late is not None
    assert sockets._late.wait(PATIENCE)
    assert sockets.permit(rules, found)


def test_without_a_thread_no_open_connection_stands() -> None:
    threads = LookupThreads()
    threads.close()
    assert not LocalSockets(Hanging(), threads).permit(SocketRules(("/a",)), SocketFile("/a", "/a", (1, 1)))
