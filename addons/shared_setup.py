"""Is this engine safe to hand connections to? For one that embedding code starts without knowing of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader

from . import http_streams
from .contained_logs import contain_all
from .engine_options import prepare_options
from .guard import Guard


class SharedSetup:
    """Puts our HTTP in place and the guard at the end of the chain, and says when the engine runs.

    It reads no configuration, watches no file, installs no signal handler and leaves the environment alone.
    """

    name = "codex-shared-setup"

    def __init__(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def load(self, _: Loader) -> None:
        http_streams.install()
        _hush(logging.getLogger("mitmproxy"))
        contain_all("mitmproxy")
        if problem := prepare_options(ctx.master):
            raise RuntimeError(problem)
        ctx.master.addons.add(Guard())

    def running(self) -> None:
        self._ready()


def _hush(log: logging.Logger) -> None:
    """The engine tells of every connection, with hosts and ports; the embedding program gets only its warnings."""
    if log.level == logging.NOTSET:
        log.setLevel(logging.WARNING)
