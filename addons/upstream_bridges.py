"""Makes a TLS connection look like a socket: the raw relay and the engine both want one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from .upstream_pipes import CHUNK, TlsPipe

LINGER = 10.0
"""Seconds that the last bytes may take after the socket they were written to was closed."""


class BridgedSocket(socket.socket):
    """One end of a socket pair that says when it is closed: the other end cannot tell that from a half-close."""

    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        super().close()
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()


def pair() -> tuple[BridgedSocket, socket.socket]:
    """Two connected non-blocking sockets: the one to give away, and the one to bridge."""
    outer, inner = socket.socketpair()
    outer.setblocking(False)
    inner.setblocking(False)
    return BridgedSocket(outer.family, outer.type, outer.proto, outer.detach()), inner


async def bridge(pipe: TlsPipe, outer: BridgedSocket, inner: socket.socket) -> None:
    """Moves bytes between a TLS connection and `inner` until both have ended, one fails, or `outer` is closed.

    Owns the connection and `inner`. Raises nothing but cancellation.
    """
    closed = asyncio.Event()
    outer.on_close = closed.set
    try:
        async with asyncio.TaskGroup() as both:
            up = both.create_task(_carry_up(inner, pipe))
            down = both.create_task(_carry_down(pipe, inner))
            both.create_task(_wind_up(closed, up, down))
    except* OSError:  # which every error of TLS is, too
        pass
    finally:
        outer.on_close = None
        pipe.close()
        inner.close()


async def _carry_up(inner: socket.socket, pipe: TlsPipe) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(inner, CHUNK):
        await pipe.send(data)
    await pipe.end()


async def _carry_down(pipe: TlsPipe, inner: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await pipe.receive():
        await loop.sock_sendall(inner, data)
    inner.shutdown(socket.SHUT_WR)


async def _wind_up(closed: asyncio.Event, up: asyncio.Task[None], down: asyncio.Task[None]) -> None:
    """Nobody takes any more what comes down; what was given to go up still goes."""
    await closed.wait()
    down.cancel()
    await asyncio.wait((up,), timeout=LINGER)
    up.cancel()
