"""The fence around one command: starts the program that becomes it, and lets it go only when the fence stands."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

STARTER = Path(__file__).with_name("starter.py")

PATIENCE = 60.0
"""Seconds that the starter has for each answer."""


class FenceFailed(Exception):
    """The command must not run. The text is for the person who typed it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to run, with which environment, and how the fence is tried before: `proxy` must refuse `canary`.

    `open_files` is the limit of descriptors that the command is to have.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    proxy: str
    canary: str
    open_files: int


class Starter:
    """The process that becomes the command. With `enforce` it has a network of its own (Linux).

    Use it as a context manager; a command that was let go is not ended by it. Every step raises `FenceFailed`.
    """

    def __init__(self, *, enforce: bool) -> None:
        if enforce and not sys.platform.startswith("linux"):
            raise FenceFailed("--enforce needs the network namespaces of Linux; this is " + sys.platform)
        self._sock, theirs = socket.socketpair()
        self._sock.settimeout(PATIENCE)
        self._heard = b""
        self._let_go = False
        mode = "enforce" if enforce else "guide"
        with theirs:
            command = [sys.executable, "-I", "-S", str(STARTER), str(theirs.fileno()), mode]
            self.process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))  # noqa: S603 - a file of our own

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._sock.close()
        if not self._let_go:
            self.process.kill()
            self.process.wait()

    def listeners(self) -> tuple[socket.socket, socket.socket]:
        """Two listening sockets in the namespace of the process, for HTTP and for SOCKS5: its only way out."""
        self._hear("unshared")
        if _network_of(self.process.pid) == _network_of(os.getpid()):
            raise FenceFailed("the kernel gave no new network namespace")
        map_users(self.process.pid)
        self._say(mapped=True)
        http, socks = self._receive_sockets()
        return http, socks

    def prove(self, order: Order) -> str:
        """Has the starter try the fence from inside; the id of the refusal that it got from the proxy."""
        self._say(
            command=list(order.command),
            environment=dict(order.environment),
            proxy=order.proxy,
            canary=order.canary,
            open_files=order.open_files,
        )
        return str(self._hear("refused"))

    def let_go(self) -> None:
        """The command begins. Whether it can be executed shows in the exit code."""
        self._let_go = True
        self._say(go=True)

    # -- the socket --------------------------------------------------------------------------------------------------

    def _say(self, **values: object) -> None:
        with contextlib.suppress(ConnectionError):  # what went wrong there is heard next, or shows in the exit code
            self._sock.sendall(json.dumps(values).encode() + b"\n")

    def _hear(self, what: str) -> object:
        while b"\n" not in self._heard:
            self._read(0)
        line, _, self._heard = self._heard.partition(b"\n")
        return _answer(line, what)

    def _receive_sockets(self) -> list[socket.socket]:
        found = self._read(2)
        if len(found) != 2:
            for fd in found:
                os.close(fd)
            self._hear("sockets")
        self._heard = self._heard.removeprefix(b"\n")
        return [socket.socket(fileno=fd) for fd in found]

    def _read(self, most: int) -> list[int]:
        try:
            data, fds, _, _ = socket.recv_fds(self._sock, 1 << 16, most)
        except TimeoutError:
            raise FenceFailed("the fence was not set up in time") from None
        except ConnectionError:
            data, fds = b"", []
        if not data:
            raise FenceFailed("the process that sets the fence up has ended")
        self._heard += data
        return fds


def _answer(line: bytes, what: str) -> object:
    said: dict[str, Any] = json.loads(line)
    if "failure" in said:
        raise FenceFailed(str(said["failure"]))
    if what not in said:
        raise FenceFailed("the process that sets the fence up is another version")
    return said[what]


def _network_of(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def map_users(pid: int) -> None:
    """Gives the users and groups of this namespace the same numbers in the one of `pid` (user_namespaces(7)).

    All of them where we may; an ordinary user may do so for itself alone.
    """
    process = Path("/proc", str(pid))
    try:
        for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
            try:
                (process / f"{kind}_map").write_text(_everybody(kind))
            except PermissionError:
                if kind == "gid":
                    (process / "setgroups").write_text("deny")
                (process / f"{kind}_map").write_text(f"{own} {own} 1")
    except OSError as error:
        raise FenceFailed(f"the kernel refuses to name users in the namespace ({error.strerror})") from None


def _everybody(kind: str) -> str:
    rows = (line.split() for line in Path(f"/proc/self/{kind}_map").read_text().splitlines())
    return "".join(f"{inside} {inside} {count}\n" for inside, _, count in rows)


def hint() -> str:
    """What usually keeps a process from making a network namespace, as far as it can be seen."""
    for name, closed, repair in (
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "Ubuntu restricts it; see sysctl kernel.apparmor_restrict_unprivileged_userns",
        ),
        ("kernel/unprivileged_userns_clone", "0", "see sysctl kernel.unprivileged_userns_clone"),
        ("user/max_user_namespaces", "0", "see sysctl user.max_user_namespaces"),
    ):
        with contextlib.suppress(OSError):
            if Path("/proc/sys", name).read_text().strip() == closed:
                return repair
    return "a container that this runs in may forbid it"
