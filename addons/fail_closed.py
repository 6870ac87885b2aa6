"""What if a rule of ours breaks? An exception in a hook is a deny; to the engine alone it would mean nothing (A4.8)."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from mitmproxy import http

from .blocked import refuse_undecided

logger = logging.getLogger("codex_network_proxy")

Hook = Callable[[Any, http.HTTPFlow], Any]


def fail_closed(hook: Hook) -> Hook:
    """For hooks that judge or edit a request: whatever they raise becomes a `403` `blocked-by-policy`."""
    if inspect.iscoroutinefunction(hook):

        @functools.wraps(hook)
        async def guarded(self: Any, flow: http.HTTPFlow) -> None:
            try:
                await hook(self, flow)
            except Exception as error:
                _deny(self, flow, error)
    else:

        @functools.wraps(hook)
        def guarded(self: Any, flow: http.HTTPFlow) -> None:
            try:
                hook(self, flow)
            except Exception as error:
                _deny(self, flow, error)

    return guarded


def _deny(addon: Any, flow: http.HTTPFlow, error: Exception) -> None:
    # The text of the error may hold what the client sent: only its kind is logged.
    logger.error("%s failed (%s); the request is denied", addon.name, type(error).__name__)
    refuse_undecided(flow)
