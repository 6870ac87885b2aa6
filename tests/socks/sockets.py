"""Connected loopback sockets and a poller on the running loop, for tests of what moves bytes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterator

import pytest

from codex_network_proxy.socks.poller import Poller

PATIENCE = 10.0


def run[Result](scenario: Callable[[], Coroutine[None, None, Result]]) -> Result:
    """Runs an async test body, which must end within seconds."""

    async def bounded() -> Result:
        return await asyncio.wait_for(scenario(), PATIENCE)

    return asyncio.run(bounded())


def tcp_pair(buffer: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection, non-blocking; `buffer` keeps the kernel's buffers near that many bytes."""
    with socket.socket() as listener:
        if buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        near = socket.socket()
        if buffer:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
    if buffer:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def reset(sock: socket.socket) -> None:
    """Closes with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def new_poller(errors: list[Exception] | None = None) -> Poller:
    seen: list[Exception] = [] if errors is None else errors
    return Poller(asyncio.get_running_loop(), seen.append)


async def receive(sock: socket.socket, size: int = 1 << 16) -> bytes:
    return await asyncio.get_running_loop().sock_recv(sock, size)


async def receive_all(sock: socket.socket) -> bytes:
    """Everything up to the end of the stream."""
    parts = []
    while data := await receive(sock, 1 << 20):
        parts.append(data)
    return b"".join(parts)


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


def fill(sock: socket.socket) -> int:
    """Sends until the socket takes no more; how much it took."""
    taken = 0
    try:
        while True:
            taken += sock.send(bytes(1 << 16))
    except BlockingIOError:
        return taken


async def until(true: Callable[[], bool]) -> None:
    """Lets the event loop run until `true()`."""
    while not true():  # noqa: ASYNC110 - what is waited for is the state of sockets
        await asyncio.sleep(0)


async def settled(*steps: Awaitable[object]) -> None:
    """Gives everything that is ready its turn, a few times over."""
    for step in steps:
        await step
    for _ in range(20):
        await asyncio.sleep(0)


@contextlib.contextmanager
def stalling(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that answers no connection: its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as queue:
        listener.bind((host, 0))
        listener.listen(0)
        for _ in range(4):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def answer_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the kernel tell the outcome by an event only, as it does for other machines."""
    connect = socket.socket.connect_ex
    asked: set[socket.socket] = set()

    def connect_once(sock: socket.socket, address: tuple[str, int]) -> int:
        if sock in asked:
            return errno.EALREADY
        asked.add(sock)
        return connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect_ex", connect_once, raising=False)
