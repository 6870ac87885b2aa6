"""A child of the test's process after a fork without exec, as `multiprocessing` makes them."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 20


@contextmanager
def forked(work: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Inside the block there is a child that has done `work`, and holds what it inherited. It must have gone well."""
    (done, say), (end, hold) = os.pipe(), os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads, and the child has none of them
        child = os.fork()
    if not child:
        _live(work, say, end, hold)
    os.close(say)
    os.close(end)
    try:
        assert os.read(done, 1) == b"+"
        yield
    finally:
        os.close(hold)
        os.close(done)
        os.waitpid(child, 0)


def _live(work: Callable[[], bool], say: int, end: int, hold: int) -> None:
    try:
        signal.alarm(PATIENCE)
        os.close(hold)
        os.write(say, b"+" if work() else b"-")
        os.read(end, 1)
    finally:
        os._exit(0)
