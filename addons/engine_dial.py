"""The door's dialler for the engine's coroutines: checked addresses in, a connected socket out."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from codex_network_proxy.policy.decision import IPAddress
from codex_network_proxy.socks.dialler import Dialled, Dialler
from codex_network_proxy.socks.poller import Poller

logger = logging.getLogger("codex_network_proxy")

_diallers: WeakKeyDictionary[asyncio.AbstractEventLoop, Dialler] = WeakKeyDictionary()


class DialError(Exception):
    """None of the addresses could be reached. The text is safe to show to the client."""


async def dial(addresses: Sequence[IPAddress], port: int) -> socket.socket:
    """Connects to one of exactly these addresses, in order, with a head start for each. Raises `DialError`."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Dialled] = loop.create_future()
    attempt = _dialler(loop).dial(addresses, port, outcome.set_result)
    try:
        dialled = await outcome
    except asyncio.CancelledError:
        attempt.cancel()
        if outcome.done() and not outcome.cancelled() and isinstance(outcome.result(), socket.socket):
            outcome.result().close()  # type: ignore[union-attr]
        raise
    if not isinstance(dialled, socket.socket):
        raise DialError(str(dialled))
    return dialled


def _failed(error: Exception) -> None:
    logger.error("dialling failed (%s)", type(error).__name__)


def _dialler(loop: asyncio.AbstractEventLoop) -> Dialler:
    dialler = _diallers.get(loop)
    if dialler is None:
        dialler = _diallers[loop] = Dialler(loop, Poller(loop, _failed))
    return dialler
