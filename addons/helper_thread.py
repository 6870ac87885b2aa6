"""A thread for one piece of work that may take its time: reading files, loading modules, closing logs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future


class Helper[Result](Future[Result]):
    """A piece of work and the thread that does it; the thread ends right after the work is done."""

    def __init__(self, work: Callable[[], Result], name: str) -> None:
        super().__init__()
        self._work = work
        # A daemon: it never keeps the process from ending.
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        if not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(self._work())
        except BaseException as error:
            self.set_exception(error)


def in_thread[Result](work: Callable[[], Result], name: str = "codex-network-proxy-helper") -> Helper[Result]:
    """Starts the work. Raises `RuntimeError` when the system gives no more threads."""
    return Helper(work, name)


async def done_in_thread[Result](
    work: Callable[[], Result], unwanted: Callable[[Result], object] | None = None
) -> Result:
    """Does the work in a thread and leaves none behind.

    Whoever is cancelled meanwhile does not wait for it; `unwanted` is then given what comes of it, in that thread.
    """
    helper = in_thread(work)
    try:
        return await asyncio.shield(asyncio.wrap_future(helper))
    except asyncio.CancelledError:
        if unwanted is not None:
            helper.add_done_callback(lambda done: done.exception() or unwanted(done.result()))
        raise
    finally:
        if helper.done():  # the thread ends right after, also when the work has failed
            helper.thread.join()
