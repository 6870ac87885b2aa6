from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

import pytest

from codex_network_proxy.socks import poller as module
from codex_network_proxy.socks.poller import ERROR, HANGUP, READ, WRITE, Kqueue, Poller
from tests.kit.forks import PATIENCE, forked

from .sockets import new_poller, reset, run, settled, tcp_pair, until


class Recording:
    """A watcher that notes what it is told, and does what the test says."""

    def __init__(self, act: Callable[[int], None] = lambda events: None) -> None:
        self.told: list[int] = []
        self.crashes: list[Exception] = []
        self._act = act

    def ready(self, events: int) -> None:
        self.told.append(events)
        self._act(events)

    def crashed(self, error: Exception) -> None:
        self.crashes.append(error)


def test_a_watcher_hears_what_it_asked_for_until_it_is_forgotten() -> None:
    async def body() -> None:
        poller = new_poller()
        near, far = tcp_pair()
        watcher = Recording()
        poller.watch(near.fileno(), watcher, READ)
        far.send(b"x")
        await until(lambda: bool(watcher.told))
        assert set(watcher.told) == {READ}
        poller.watch(near.fileno(), watcher, WRITE)
        watcher.told.clear()
        await until(lambda: bool(watcher.told))
        assert set(watcher.told) == {WRITE}
        poller.forget(near.fileno())
        watcher.told.clear()
        await settled()
        assert watcher.told == []
        poller.close()
        near.close()
        far.close()

    run(body)


def test_a_mask_of_zero_still_hears_of_a_reset_and_a_silenced_one_does_not() -> None:
    async def body() -> None:
        poller = new_poller()
        (near, far), (silent, silent_far) = tcp_pair(), tcp_pair()
        watcher, deaf = Recording(), Recording()
        poller.watch(near.fileno(), watcher, 0)
        poller.watch(silent.fileno(), deaf, READ)
        poller.silence(silent.fileno())
        reset(far)
        reset(silent_far)
        await until(lambda: bool(watcher.told))
        assert watcher.told[0] & ERROR
        assert watcher.told[0] & HANGUP
        assert deaf.told == []
        poller.close_socket(near)
        poller.close_socket(silent)
        poller.close()

    run(body)


def test_an_error_ends_one_watch_and_not_the_others() -> None:
    async def body() -> None:
        errors: list[Exception] = []
        poller = new_poller(errors)
        pairs = [tcp_pair() for _ in range(3)]
        failure = ValueError("made up")

        def fail(events: int) -> None:
            raise failure

        bad = Recording(fail)
        good = [Recording(), Recording()]
        for (near, far), watcher in zip(pairs, (good[0], bad, good[1]), strict=True):
            poller.watch(near.fileno(), watcher, READ)
            far.send(b"x")
        await until(lambda: bool(good[0].told and good[1].told and bad.crashes))
        assert errors[0] is bad.crashes[0] is failure
        poller.close()
        for near, far in pairs:
            near.close()
            far.close()

    run(body)


def test_a_descriptor_used_again_does_not_hear_its_predecessors_events() -> None:
    async def body() -> None:
        poller = new_poller()
        first, second = tcp_pair(), tcp_pair()
        fresh, fresh_far = tcp_pair()
        heir = Recording()
        heirs: list[socket.socket] = []

        def replace(other: socket.socket) -> None:
            """Closes the socket whose event is in the same batch, and puts a new one on its descriptor."""
            if heirs:
                return
            number = other.fileno()
            poller.close_socket(other)
            os.dup2(fresh.fileno(), number)
            heirs.append(socket.socket(fileno=number))
            poller.watch(number, heir, WRITE)

        one = Recording(lambda events: replace(second[0]))
        two = Recording(lambda events: replace(first[0]))
        poller.watch(first[0].fileno(), one, READ)
        poller.watch(second[0].fileno(), two, READ)
        first[1].send(b"x")
        second[1].send(b"x")
        await until(lambda: bool(heir.told))
        assert heir.told[0] == WRITE
        assert not (one.told and two.told)
        poller.close()
        for sock in (*first, *second, fresh, fresh_far, *heirs):
            sock.close()

    run(body)


def test_closing_twice_is_harmless() -> None:
    async def body() -> None:
        poller = new_poller()
        poller.close()
        poller.close()

    run(body)


class FakeKqueue:
    """What a kernel with kqueue would see and say."""

    KQ_FILTER_READ, KQ_FILTER_WRITE = -1, -2
    KQ_EV_ADD, KQ_EV_DELETE = 1, 2

    class kevent:
        def __init__(self, ident: int, filter: int, flags: int = 0) -> None:
            self.ident, self.filter, self.flags = ident, filter, flags

    def __init__(self) -> None:
        self.armed: set[tuple[int, int]] = set()
        self.closed = False

    def kqueue(self) -> FakeKqueue:
        return self

    def fileno(self) -> int:
        return -1 if self.closed else 7

    def close(self) -> None:
        self.closed = True

    def control(self, changes: list[kevent] | None, batch: int, timeout: float) -> list[kevent]:
        for change in changes or ():
            key = (change.ident, change.filter)
            if change.flags == self.KQ_EV_ADD:
                self.armed.add(key)
            else:
                self.armed.remove(key)
        return [self.kevent(*key) for key in sorted(self.armed)][:batch]


@pytest.mark.parametrize(
    ("mask", "filters"),
    [
        pytest.param(READ, {-1}, id="read"),
        pytest.param(WRITE, {-2}, id="write"),
        pytest.param(READ | WRITE, {-1, -2}, id="both"),
        pytest.param(0, set(), id="neither"),
    ],
)
def test_kqueue_arms_one_filter_for_each_bit(mask: int, filters: set[int]) -> None:
    kernel = FakeKqueue()
    queue = Kqueue(kernel)
    for before in (READ, WRITE, READ | WRITE, 0):
        queue.register(5, before)
        queue.modify(5, mask)
        assert kernel.armed == {(5, kind) for kind in filters}
        assert sum(events for _, events in queue.poll(0, 10)) == mask
        queue.unregister(5)
        assert kernel.armed == set()
    assert queue.fileno() == 7
    queue.close()
    assert queue.fileno() == -1


def test_a_descriptor_closed_behind_kqueues_back_starts_anew() -> None:
    kernel = FakeKqueue()
    queue = Kqueue(kernel)
    queue.register(5, READ)
    kernel.armed.clear()  # what the kernel does when the descriptor is closed
    queue.register(5, READ)
    assert kernel.armed == {(5, -1)}


def test_without_epoll_the_poller_uses_kqueue(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeKqueue()

    class Loop:
        def __init__(self) -> None:
            self.readers: dict[int, object] = {}

        def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
            self.readers[fd] = callback

        def remove_reader(self, fd: int) -> None:
            del self.readers[fd]

    monkeypatch.setattr(module, "_backend", lambda: Kqueue(kernel))
    loop = Loop()
    poller = Poller(loop, lambda error: None)  # type: ignore[arg-type]  # a fake loop
    watcher = Recording()
    poller.watch(5, watcher, READ | WRITE)
    poller._dispatch()
    assert watcher.told == [WRITE, READ]
    poller.close()
    assert loop.readers == {}
    assert kernel.closed


def test_what_the_kernel_does_not_take_is_not_taken_for_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        poller = new_poller()
        near, far = tcp_pair()
        first, second = Recording(), Recording()
        for mask, call in ((READ, "register"), (WRITE, "modify")):
            with monkeypatch.context() as patch:
                patch.setattr(poller, "_backend", Refusing())
                with pytest.raises(OSError, match=call):
                    poller.watch(near.fileno(), second, mask)
            poller.watch(near.fileno(), first, READ)
        far.send(b"x")
        await until(lambda: bool(first.told))
        assert (set(first.told), second.told) == ({READ}, [])
        poller.close_socket(near)
        poller.close()
        far.close()

    run(body)


class Refusing:
    """A kernel that watches nothing more."""

    def register(self, fd: int, mask: int) -> None:
        raise OSError(errno.ENOSPC, "register")

    def modify(self, fd: int, mask: int) -> None:
        raise OSError(errno.ENOMEM, "modify")


def test_the_poller_needs_one_descriptor_of_the_event_loop() -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        poller = new_poller()
        assert loop.remove_reader(poller._backend.fileno())
        poller.close()

    run(body)


def test_what_is_closed_ends_though_a_child_after_a_fork_lives_on() -> None:
    async def body() -> None:
        poller = new_poller()
        near, far = tcp_pair()
        watcher = Recording()
        poller.watch(near.fileno(), watcher, READ)
        with forked():
            poller.close_socket(near)
            far.settimeout(PATIENCE)
            assert far.recv(1) == b""
            assert list(poller._poll(0, 1)) == [], "nothing is reported for ever of a socket that nobody has"
        poller.close()
        far.close()

    run(body)
