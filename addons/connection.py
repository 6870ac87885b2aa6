"""The engine's connection handler with the policy built in: no grant, no dial, and only to checked addresses."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from mitmproxy import options
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.master import Master
from mitmproxy.proxy import commands, events, mode_servers, mode_specs, server_hooks
from mitmproxy.proxy.server import ConnectionIO

from codex_network_proxy.policy.decision import Allowed, IPAddress
from codex_network_proxy.socks.dialler import DialError, DialFailure, dial

from .engine_events import DirectEvents
from .sessions import Session, close_session, open_session, session_of

REFUSED = "blocked by network policy"
SETTINGS_ADDON = "codex-settings"
"""Holds the authority. Without it, as after a script was unloaded, sessions have none and grant nothing."""


class PolicedConnection(DirectEvents):
    """Serves one client. Every server connection needs a grant of this client's session (design: the last word)."""

    def __init__(
        self,
        master: Master,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        opts: options.Options,
        mode: mode_specs.ProxyMode,
    ) -> None:
        super().__init__(master, reader, writer, opts, mode)
        self.tunnel: Allowed | None = None

    def log(self, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
        """The engine's own records; what `ClientTrust` says better is left out."""
        if not message.startswith("Client TLS handshake failed"):
            super().log(message, level, exc_info)

    def verdicts(self) -> tuple[Allowed, ...]:
        """Everything this connection does at the moment because a policy once allowed it."""
        session = session_of(self.client.id)
        if session is None:
            return ()
        requests = (approval.verdict for approval in session.approvals.values())
        return (*([session.tunnel] if session.tunnel else []), *requests)

    async def handle_client(self) -> None:
        """Runs the connection to its end, with a session that lasts exactly as long."""
        host, port, *_ = self.client.peername
        settings = self.master.addons.get(SETTINGS_ADDON)
        session = Session(
            getattr(settings, "authority", None),
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            getattr(settings, "secrets", None),
            tunnel=self.tunnel,
            tunnel_decided=self.tunnel is not None,
        )
        open_session(self.client.id, session)
        try:
            await super().handle_client()
        finally:
            close_session(self.client.id)

    async def open_connection(self, command: commands.OpenConnection) -> None:
        """As the engine's own, but dials only what was granted and only the addresses that were checked."""
        server = command.connection
        hook_data = server_hooks.ServerConnectionHookData(client=self.client, server=server)
        await self.handle_hook(server_hooks.ServerConnectHook(hook_data))
        addresses = self._granted(server)
        if server.error or not addresses:
            await self._failed(command, hook_data, server.error or REFUSED)
            return
        try:
            reader, writer = await self._dial(server, addresses)
        except DialError as error:
            await self._failed(command, hook_data, str(error))
        except asyncio.CancelledError:
            await self._failed(command, hook_data, "connection cancelled")
            raise
        else:
            await self._serve_server(command, hook_data, reader, writer)

    def _granted(self, server: Server) -> tuple[IPAddress, ...]:
        session = session_of(self.client.id)
        if session is None or server.address is None or server.transport_protocol != "tcp":
            return ()
        return session.grants.get((server.address[0], server.address[1]), ())

    async def _dial(
        self, server: Server, addresses: tuple[IPAddress, ...]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert server.address
        server.timestamp_start = time.time()
        sock = await dial(addresses, server.address[1])
        try:
            return await asyncio.open_connection(sock=sock)
        except OSError as error:
            sock.close()
            raise DialError(DialFailure.OTHER) from error

    async def _failed(
        self, command: commands.OpenConnection, hook_data: server_hooks.ServerConnectionHookData, error: str
    ) -> None:
        command.connection.error = error
        await self.handle_hook(server_hooks.ServerConnectErrorHook(hook_data))
        await self.server_event(events.OpenConnectionCompleted(command, error))

    async def _serve_server(
        self,
        command: commands.OpenConnection,
        hook_data: server_hooks.ServerConnectionHookData,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        server = command.connection
        server.timestamp_tcp_setup = time.time()
        server.state = ConnectionState.OPEN
        server.peername = writer.get_extra_info("peername")
        server.sockname = writer.get_extra_info("sockname")
        self.transports[server] = ConnectionIO(handler=asyncio.current_task(), reader=reader, writer=writer)
        await self.handle_hook(server_hooks.ServerConnectedHook(hook_data))
        await self.server_event(events.OpenConnectionCompleted(command, None))
        try:
            await self.handle_connection(server)
        finally:
            server.timestamp_end = time.time()
            await self.handle_hook(server_hooks.ServerDisconnectedHook(hook_data))


def install() -> None:
    """Makes every listener of this engine, also one that was started by hand, use the policed handler.

    There is no way back: when the bundle is unloaded, the handlers find no authority and grant nothing.
    """
    mode_servers.ProxyConnectionHandler = PolicedConnection  # type: ignore[misc]  # where the engine looks it up
