"""The engine's event loop per connection, without a task and two trips through the loop for every hook.

The engine starts a task for each hook, which then waits for a lock that its own caller holds. Nearly all hooks finish
without waiting for anything, so here they run at once, and what they complete is queued behind the current event.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import fields
from typing import Any

from mitmproxy import hooks
from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.flow import Flow
from mitmproxy.proxy import commands, events, mode_servers
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.utils import asyncio_utils

WRITE_LIMIT = 64 * 1024
"""Bytes waiting for a peer above which its counterpart is not read; asyncio's own high-water mark."""

_FIELD: dict[type[hooks.Hook], str] = {}


class DirectEvents(mode_servers.ProxyConnectionHandler):
    """Does what the engine's own handler does, in the same order; a layer that crashes ends its connection."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]  # the engine's own
        self._events: deque[events.Event] = deque()
        self._busy = False
        self._hooks: set[asyncio.Task[None]] = set()

    async def server_event(self, event: events.Event) -> None:
        """Processes the event, and all that follow from it at once. An event from within waits for its turn."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                self._process(self._events.popleft())
        finally:
            self._busy = False

    def _process(self, event: events.Event) -> None:
        self.timeout_watchdog.register_activity()
        if isinstance(event, events.ConnectionClosed) and self._is_reset(event.connection):
            event.connection.state = ConnectionState.CLOSED
        try:
            for command in self.layer.handle_event(event):
                self._execute(command)
        except Exception as error:
            # The engine would go on with a layer in an unknown state; its text may quote what a peer sent.
            self.log(f"a protocol layer crashed ({type(error).__name__}); the connection is cut", logging.ERROR)
            self._cut()

    def _execute(self, command: commands.Command) -> None:
        match command:
            case commands.StartHook():
                self._start_hook(command)
            case commands.OpenConnection():
                self._open(command)
            case commands.RequestWakeup():
                self._start_timer(command)
            case commands.Log():
                self.log(command.message, command.level)
            case commands.ConnectionCommand():
                if command.connection in self.transports:
                    self._use_connection(command)
            case _:
                raise RuntimeError(f"unexpected command {type(command).__name__}")

    def _use_connection(self, command: commands.ConnectionCommand) -> None:
        match command:
            case commands.SendData():
                writer = self.transports[command.connection].writer
                assert writer
                if not writer.is_closing():
                    writer.write(command.data)
                elif command.connection.state is not ConnectionState.CLOSED:
                    self.close_connection(command.connection)  # the peer has reset it while nobody was reading
            case commands.CloseTcpConnection():
                self.close_connection(command.connection, command.half_close)
            case commands.CloseConnection():
                self.close_connection(command.connection, False)
            case _:
                raise RuntimeError(f"unexpected command {type(command).__name__}")

    def _is_reset(self, connection: Connection) -> bool:
        """Whether the connection is gone both ways; to the engine every end is one that may still be written to."""
        io = self.transports.get(connection)
        return io is not None and isinstance(io.writer, asyncio.StreamWriter) and io.writer.is_closing()

    def _open(self, command: commands.OpenConnection) -> None:
        assert command.connection not in self.transports
        # Not started eagerly: its handler must be in the table before it completes.
        task = asyncio.Task(self.open_connection(command), loop=asyncio.get_running_loop())
        self.transports[command.connection] = ConnectionIO(handler=task)

    def _start_timer(self, command: commands.RequestWakeup) -> None:
        task = asyncio_utils.create_task(
            self.wakeup(command), name="wakeup timer", keep_ref=True, client=self.client.peername
        )
        self.wakeup_timer.add(task)

    def _start_hook(self, hook: commands.StartHook) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.Task(self.hook_task(hook), loop=loop, eager_start=True)
        if not task.done():
            self._hooks.add(task)
            task.add_done_callback(self._hooks.discard)

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Runs the addons' hooks; the time they take does not count as inactivity of the client."""
        watchdog = self.timeout_watchdog
        watchdog.can_timeout.clear()
        watchdog.blocker += 1
        try:
            await self.master.addons.handle_lifecycle(hook)
            data = argument_of(hook)
            if isinstance(data, Flow) and data.intercepted:
                await data.wait_for_resume()
        finally:
            watchdog.blocker -= 1
            if watchdog.blocker == 0:
                watchdog.register_activity()
                watchdog.can_timeout.set()

    async def drain_writers(self) -> None:
        """Waits only when a peer is really behind."""
        for io in self.transports.values():
            writer = io.writer
            if not isinstance(writer, asyncio.StreamWriter):
                continue
            if writer.transport.get_write_buffer_size() > WRITE_LIMIT:
                await super().drain_writers()  # type: ignore[no-untyped-call]  # the engine's own
                return

    def _cut(self) -> None:
        for io in list(self.transports.values()):
            if io.handler:
                io.handler.cancel("a protocol layer crashed")


def argument_of(hook: hooks.Hook) -> Any:
    """A hook's one argument, without asking its class for its fields each time."""
    kind = type(hook)
    name = _FIELD.get(kind)
    if name is None:
        name = _FIELD[kind] = fields(kind)[0].name  # type: ignore[arg-type]  # each hook is one
    return getattr(hook, name)
