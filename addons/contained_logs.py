"""Log handlers of the embedding program run in our threads, too: what they raise ends nothing there."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from contextlib import suppress
from typing import Any


def contain(logger: logging.Logger) -> None:
    """From now on nobody who logs there is told what a handler raises; `threading.excepthook` is.

    In the main thread a handler may still end the program. Harmless when called again.
    """
    if "callHandlers" in vars(logger):
        return
    call_handlers = logger.callHandlers

    def contained(record: logging.LogRecord) -> None:
        try:
            call_handlers(record)
        except Exception:
            _tell()
        except SystemExit:
            if threading.current_thread() is threading.main_thread():
                raise
            _tell()

    logger.callHandlers = contained  # type: ignore[method-assign]  # filters and levels stay as they are


def contain_all(name: str) -> None:
    """`contain` for a logger and those below it that exist."""
    for each in [logging.getLogger(name), *logging.root.manager.loggerDict.values()]:
        if isinstance(each, logging.Logger) and f"{each.name}.".startswith(f"{name}."):
            contain(each)


def log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler, as the one that it has by itself. Whatever the log does, it does not raise."""
    try:
        loop.default_exception_handler(context)
    except (Exception, SystemExit):
        _tell()


def _tell() -> None:
    kind, error, trace = sys.exc_info()
    assert kind
    with suppress(Exception):
        threading.excepthook(threading.ExceptHookArgs((kind, error, trace, threading.current_thread())))
