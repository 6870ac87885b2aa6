"""Processes: client and origin, the proxies, which core each of them has, and that none of them is left over."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection as Channel
from pathlib import Path
from typing import Any

STOP_PATIENCE = 5.0
START_PATIENCE = 30.0


def cores() -> tuple[int, int] | None:
    """One core for the proxies and another for client and origin; None where they cannot be had."""
    if sys.platform != "linux":
        return None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else None


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started meanwhile runs on that core, and so does this process."""
    if sys.platform != "linux" or core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Ctrl-C reaches the whole group; what is started meanwhile leaves it to the one that started it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(serve: Callable[..., None], channel: Channel, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It ends when the one that owns it closes the channel, or is gone.
    with contextlib.suppress(EOFError, ConnectionError):
        serve(channel, *arguments)


@contextmanager
def worker(serve: Callable[..., None], *arguments: Any, core: int | None) -> Iterator[tuple[Channel, int]]:
    """A process that runs `serve(channel, *arguments)`: our end of the channel, and its pid."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(serve, theirs, *arguments), daemon=True)
    with on_core(core), _deaf_to_interrupts():
        process.start()
    theirs.close()
    try:
        yield ours, process.pid or 0
    finally:
        ours.close()
        process.join(STOP_PATIENCE)
        process.kill()
        process.join()


@contextmanager
def program(
    command: Sequence[str | Path], environment: Mapping[str, str], folder: Path, core: int | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A proxy, in a session of its own; what it says goes to `folder`/output."""
    with (folder / "output").open("ab") as output, on_core(core):
        child = subprocess.Popen(  # noqa: S603  # commands of this file's neighbours
            [str(word) for word in command],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_PATIENCE)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)  # itself, or what it left behind
        child.wait()


def wait_listening(child: subprocess.Popen[bytes], port: int, output: Path) -> None:
    """Returns as soon as the port takes connections. Raises `RuntimeError` when that does not happen."""
    deadline = time.monotonic() + START_PATIENCE
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if child.poll() is not None or time.monotonic() > deadline:
            said = output.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"no proxy listens on port {port}:\n{said}")
        time.sleep(0.002)


def free_port() -> int:
    """Not one of those that the system gives to connections: a thousand of them are made before it is bound."""
    first = random.randrange(12_000, 30_000)  # noqa: S311  # no secret
    for port in range(first, first + 1_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no free port")


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """No proxy, no CA and no settings of this machine's user."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LANG": "C.UTF-8", **more}


def raise_descriptor_limit() -> None:
    """So that a thousand tunnels can be open, in every process started from here."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
