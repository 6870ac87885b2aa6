"""A private unix socket on which a running proxy answers questions of the same user: one line each way.

request  = {"command": NAME, "argument": TEXT?}
answer   = {"result": ...} | {"error": TEXT}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from .private_files import FileRefused, ensure_private_directory

logger = logging.getLogger("codex_network_proxy")

DIRECTORY = Path("proxy")
"""Below CODEX_HOME; private, and so is the socket in it."""

PREFIX, SUFFIX = "control-", ".sock"

REQUEST_LIMIT = 4096
"""Bytes of one request."""

ANSWER_TIME = 5.0
"""Seconds a client has for its request."""

CLIENTS = 16
"""Clients at one time. For one more the oldest makes room: who asks gets an answer at once."""

Command = Callable[[str], object]
"""Takes the argument, empty when there is none; answers something JSON can say. Raises `ValueError` with a text."""


def socket_path(home: Path, pid: int) -> Path:
    return home / DIRECTORY / f"{PREFIX}{pid}{SUFFIX}"


def socket_paths(home: Path) -> list[tuple[int, Path]]:
    """The sockets of running proxies, and perhaps of dead ones, by process id."""
    found = []
    for path in sorted((home / DIRECTORY).glob(f"{PREFIX}*{SUFFIX}")):
        pid = path.name.removeprefix(PREFIX).removesuffix(SUFFIX)
        if pid.isdecimal():
            found.append((int(pid), path))
    return found


class ControlSocket:
    """Serves `commands` on a socket of mode 0600 until it is closed. A proxy runs without it when it cannot be had."""

    def __init__(self, home: Path, commands: Mapping[str, Command]) -> None:
        self.path = socket_path(home, os.getpid())
        self._commands = commands
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], None] = {}  # the oldest first

    async def start(self) -> None:
        """Listens, or logs why it does not."""
        try:
            ensure_private_directory(self.path.parent, "proxy directory")
            self.path.unlink(missing_ok=True)  # of a dead process with our number
            self._server = await asyncio.start_unix_server(self._serve, self.path, limit=REQUEST_LIMIT)
            self.path.chmod(0o600)
        except (OSError, FileRefused) as error:
            logger.warning("no control socket at %s: %s", self.path, getattr(error, "strerror", None) or error)

    def close(self) -> None:
        """Harmless when called again, or before the start."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(OSError):
                self.path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._clients[task] = None
        try:
            if len(self._clients) > CLIENTS:
                self._make_room()
            async with asyncio.timeout(ANSWER_TIME):
                line = await reader.readline()
                writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # it said too much, nothing, or hung up
        finally:
            self._clients.pop(task, None)
            writer.close()

    def _make_room(self) -> None:
        oldest = next(iter(self._clients))
        del self._clients[oldest]
        oldest.cancel()

    def _answer(self, line: bytes) -> dict[str, object]:
        try:
            request = json.loads(line)
            command = self._commands[request["command"]]
            argument = request.get("argument", "")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {"error": f"write one of: {', '.join(self._commands)}"}
        try:
            return {"result": command(argument if isinstance(argument, str) else "")}
        except ValueError as error:
            return {"error": str(error)}
        except Exception as error:
            # Its text may hold anything; the person who asks finds the kind in the answer and nothing in the log.
            logger.error("a control command failed (%s)", type(error).__name__)
            return {"error": f"failed ({type(error).__name__})"}
