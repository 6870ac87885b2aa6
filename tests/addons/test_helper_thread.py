"""Work in a thread of its own: its result or error, and no thread that outlasts it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from codex_network_proxy.addons import helper_thread
from codex_network_proxy.addons.helper_thread import Helper, done_in_thread


class SlowToEnd(Helper[str]):
    """Its thread goes on for a moment after the work is done."""

    last: SlowToEnd

    def _run(self) -> None:
        SlowToEnd.last = self
        super()._run()
        ended = threading.Event()
        threading.Timer(0.05, ended.set).start()
        ended.wait()


def fail() -> str:
    raise LookupError("no such thing")


@pytest.mark.parametrize(
    ("work", "error"),
    [pytest.param(lambda: "done", None, id="work that is done"), pytest.param(fail, LookupError, id="work that fails")],
)
def test_no_thread_is_left(
    work: Callable[[], str], error: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_thread, "Helper", SlowToEnd)
    if error is None:
        assert asyncio.run(done_in_thread(work)) == "done"
    else:
        with pytest.raises(error):
            asyncio.run(done_in_thread(work))
    assert not SlowToEnd.last.thread.is_alive()
