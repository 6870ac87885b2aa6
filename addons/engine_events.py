"""The engine's event loop per connection, without a task and two trips through the loop for every hook.

The engine starts a task for each hook, which then waits for a lock that its own caller holds. Nearly all hooks finish
without waiting for anything, so here they run at once, and what they complete is queued behind the current event.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.flow import Flow
from mitmproxy.proxy import commands, events, mode_servers
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.utils import asyncio_utils

from .hook_dispatch import CachedAddons, arguments_of

WRITE_LIMIT = 64 * 1024
"""Bytes waiting for a peer above which its counterpart is not read; asyncio's own high-water mark."""


class DirectEvents(mode_servers.ProxyConnectionHandler):
    """Does what the engine's own handler does, in the same order; a layer that crashes ends its connection."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]  # the engine's own
        self._events: deque[events.Event] = deque()
        self._busy = False
        self._hooks: set[asyncio.Task[None]] = set()
        self._unsent: dict[Connection, list[bytes]] = {}
        self._begun: dict[commands.StartHook, asyncio.Task[None]] = {}

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
            for connection in list(self._unsent):
                self._send(connection)

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
                    self._unsent.setdefault(command.connection, []).append(command.data)
                elif command.connection.state is not ConnectionState.CLOSED:
                    self.close_connection(command.connection)  # the peer has reset it while nobody was reading
            case commands.CloseTcpConnection():
                self.close_connection(command.connection, command.half_close)
            case commands.CloseConnection():
                self.close_connection(command.connection, False)
            case _:
                raise RuntimeError(f"unexpected command {type(command).__name__}")

    def close_connection(self, connection: Connection, half_close: bool = False) -> None:
        """As the engine's own, behind everything that was to be sent."""
        self._send(connection)
        super().close_connection(connection, half_close)

    def _send(self, connection: Connection) -> None:
        """Sends in one go what the event that is being processed leads to."""
        io, data = self.transports.get(connection), self._unsent.pop(connection, None)
        if data and io and io.writer and not io.writer.is_closing():
            io.writer.write(data[0] if len(data) == 1 else b"".join(data))

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

    def run_hook(self, hook: commands.StartHook) -> bool:
        """Runs the addons' hook; whether it is done. If not, it must be started as a command, and goes on then."""
        task = self._begin_hook(hook)
        if task is None or (task.done() and not task.cancelled() and task.exception() is None):
            return True
        self._begun[hook] = task
        return False

    def _begin_hook(self, hook: commands.StartHook) -> asyncio.Task[None] | None:
        """Runs as much of the hook as needs no waiting; what does the rest, if something is left."""
        rest = self._run(hook)
        # What has to be awaited gets a task of its own: it may ask for the task that it runs in.
        return None if rest is None else asyncio.Task(rest, loop=asyncio.get_running_loop(), eager_start=True)

    def _run(self, hook: commands.StartHook) -> Coroutine[Any, Any, None] | None:
        addons, data = self.master.addons, arguments_of(hook)[0]
        rest = addons.start(hook) if isinstance(addons, CachedAddons) else addons.handle_lifecycle(hook)
        if rest is None and not (isinstance(data, Flow) and data.intercepted):
            return None
        return self._finish(rest, data)

    def _start_hook(self, hook: commands.StartHook) -> None:
        task = self._begun.pop(hook, None) or self._begin_hook(hook)
        if task is None:
            self._complete(hook)
            return
        after = asyncio.Task(self._complete_after(task, hook), loop=asyncio.get_running_loop(), eager_start=True)
        if not after.done():
            self._hooks.add(after)
            after.add_done_callback(self._hooks.discard)

    def _complete(self, hook: commands.StartHook) -> None:
        """Queues what a hook that is done leads to; to be called while an event is processed."""
        if hook.blocking:
            self._events.append(events.HookCompleted(hook))

    async def _complete_after(self, task: asyncio.Task[None], hook: commands.StartHook) -> None:
        await task
        if hook.blocking:
            await self.server_event(events.HookCompleted(hook))

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Runs the addons' hooks."""
        rest = self._run(hook)
        if rest is not None:
            await rest

    async def _finish(self, rest: Coroutine[Any, Any, None] | None, data: object) -> None:
        """The time that hooks take does not count as inactivity of the client."""
        watchdog = self.timeout_watchdog
        watchdog.can_timeout.clear()
        watchdog.blocker += 1
        try:
            if rest is not None:
                await rest
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
