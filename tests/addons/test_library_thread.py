"""The thread of all proxies: there as long as one of them is, and never in anybody's way."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future

import pytest

from codex_network_proxy.addons import library_thread
from codex_network_proxy.addons.library_thread import NAME, LibraryThread, enter, leave

PATIENCE = 10.0


def end(thread: LibraryThread) -> None:
    leave(thread).result(PATIENCE)
    thread.thread.join(PATIENCE)


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_it_lasts_from_the_first_to_the_last_user() -> None:
    one, two = enter(), enter()
    assert one is two
    assert ours() == [one.thread]
    assert leave(one).done(), "at once, for somebody else uses it"
    assert one.call(lambda: threading.current_thread()) is one.thread
    end(two)
    assert ours() == []
    three = enter()
    assert three is not two
    end(three)


def test_it_keeps_no_process_from_ending() -> None:
    thread = enter()
    assert thread.thread.daemon
    end(thread)


def test_a_new_one_waits_for_the_end_of_the_old_one() -> None:
    """There can be one engine only."""
    old = enter()
    stuck = threading.Event()

    async def blocking() -> None:
        stuck.wait(PATIENCE)  # what keeps a thread from ending

    old.submit(blocking)
    leaving = leave(old)
    new = enter()
    assert new is not old
    begun = new.submit(lambda: asyncio.sleep(0))
    assert not begun.done()
    assert not leaving.done()
    stuck.set()
    begun.result(PATIENCE)
    assert leaving.done()
    end(new)


def test_what_is_asked_of_it_runs_there_and_comes_back() -> None:
    thread = enter()

    async def double(number: int) -> int:
        return 2 * number

    def broken() -> None:
        raise KeyError("canary")

    assert thread.submit(lambda: double(21)).result(PATIENCE) == 42
    with pytest.raises(KeyError, match="canary"):
        thread.call(broken)
    end(thread)


def test_what_is_asked_in_the_thread_itself_is_done_at_once() -> None:
    thread = enter()
    assert thread.submit(lambda: asyncio.sleep(0, thread.call(lambda: 42))).result(PATIENCE) == 42
    end(thread)


def test_a_proxy_may_be_collected_at_any_moment() -> None:
    """It ends itself in the thread that collects it, whatever that was doing."""
    thread = enter()
    collected: list[Future[None]] = []

    class Proxy:
        def __del__(self) -> None:
            assert enter() is thread
            collected.append(thread.submit(lambda: asyncio.sleep(0)))
            leave(thread)

    with library_thread._lock, thread._calls_lock:
        Proxy()
    collected[0].result(PATIENCE)
    end(thread)


def test_what_still_runs_at_its_end_is_cancelled() -> None:
    thread = enter()

    async def endless() -> None:
        await asyncio.get_running_loop().create_future()

    call = thread.submit(endless)
    end(thread)
    assert call.cancelled()


def test_nothing_is_asked_of_one_that_has_ended() -> None:
    thread = enter()
    end(thread)
    with pytest.raises(RuntimeError, match="has ended"):
        thread.submit(lambda: asyncio.sleep(0))


def test_it_survives_no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = enter()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    monkeypatch.setattr(library_thread, "_last", None)  # no thread but its own is alive in a child
    with pytest.raises(RuntimeError, match="does not survive a fork"):
        thread.submit(lambda: asyncio.sleep(0))
    other = enter()
    assert other is not thread, "the child may build proxies of its own"
    end(other)
    monkeypatch.undo()
    end(thread)


def test_no_thread_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        enter()
    monkeypatch.undo()
    end(enter())
