"""The engine's connection handler with the policy built in: no grant, no dial, and only to checked addresses."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from mitmproxy import options
from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.master import Master
from mitmproxy.proxy import commands, events, mode_servers, mode_specs, server_hooks
from mitmproxy.proxy.server import ConnectionIO

from codex_network_proxy.policy.decision import UNSCOPED, Allowed, ClientScope
from codex_network_proxy.socks.dialler import DialError, DialFailure, dial
from codex_network_proxy.socks.listener import address_text

from .door_reach import Reached
from .engine_events import WRITE_LIMIT, DirectEvents
from .sessions import Session, close_session, open_session, session_of
from .socket_streams import streams_over
from .tenant import Tenant
from .upstream_connect import UpstreamFailed
from .upstream_errors import CANCELLED

REFUSED = "blocked by network policy"
SETTINGS_ADDON = "codex-settings"
"""Says whose the clients of the engine's own listeners are.

Without it, as after a script was unloaded, they are nobody's and get nothing.
"""

TLS_DEADLINE = 10.0
"""Seconds from the dial to the end of the TLS handshake with an origin."""

OWN_BACKLOG = 1 << 20
"""Bytes that may wait for an origin while its own answer is being read."""

HARMLESS = (
    "client connect",
    "client disconnect",
    "client kill",
    "server connect",
    "server disconnect",
    "closing transports",
    "transports closed",
    "Closing connection due to inactivity",
    "a protocol layer crashed",
)
"""How the engine's messages begin that are passed on."""


class PolicedConnection(DirectEvents):
    """Serves one client. Every server connection needs a grant of this client's session (design: the last word).

    `tenant` is whose client it is, when a door handed it over; `tunnel` what the door decided on its CONNECT, and
    `user_agent` what that named, where no request is made of it.
    """

    def __init__(
        self,
        master: Master,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        opts: options.Options,
        mode: mode_specs.ProxyMode,
    ) -> None:
        super().__init__(master, reader, writer, opts, mode)
        self.tenant: Tenant | None = None
        self.scope: ClientScope = UNSCOPED
        self.tunnel: Allowed | None = None
        self.user_agent: str | None = None

    def log(self, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
        """Only what surely holds nothing that was sent: the engine's messages quote heads, payloads and values."""
        if message.startswith(HARMLESS):
            super().log(message, level, exc_info)

    def verdicts(self) -> list[Allowed]:
        """Everything this connection does at the moment because a policy once allowed it."""
        session = session_of(self.client.id)
        return session.verdicts() if session else []

    async def handle_client(self) -> None:
        """Runs the connection to its end, with a session that lasts exactly as long."""
        settings = self.master.addons.get(SETTINGS_ADDON)
        session = Session(
            self.tenant or getattr(settings, "tenant", None),
            address_text(self.client.peername),
            self.scope,
            tunnel=self.tunnel,
            tunnel_decided=self.tunnel is not None,
            user_agent=self.user_agent,
            run_hook=self.run_hook,
        )
        open_session(self.client.id, session)
        try:
            await super().handle_client()
        finally:
            close_session(self.client.id)

    def _process(self, event: events.Event) -> None:
        """As the engine's own; a client that has gone leaves the questions that are asked for it."""
        if isinstance(event, events.ConnectionClosed) and event.connection is self.client:
            session = session_of(self.client.id)
            if session and session.authority:
                session.authority.client_left(session.client_address)
        super()._process(event)

    async def handle_connection(self, connection: Connection) -> None:
        """As the engine's own, but it can be cut from the first byte on: its task is known before it reads."""
        if self.transports[connection].handler is None:
            self.transports[connection].handler = asyncio.current_task()
        await super().handle_connection(connection)

    async def drain_writers(self) -> None:
        """Waits until the others have taken what came from this connection, and until it may be read on."""
        task = asyncio.current_task()
        own: Connection = self.client
        for connection, io in list(self.transports.items()):
            if io.handler is task:
                own = connection
            if isinstance(io.writer, asyncio.StreamWriter) and self._is_behind(connection, io, io.writer):
                await self._drain(io, io.writer)
        if session := session_of(self.client.id):
            await session.may_read(own)

    def _is_behind(self, connection: Connection, io: ConnectionIO, writer: asyncio.StreamWriter) -> bool:
        """An origin that answers while it is being sent to must be read, or both sides would wait for each other."""
        own_origin = io.handler is asyncio.current_task() and connection is not self.client
        return writer.transport.get_write_buffer_size() > (OWN_BACKLOG if own_origin else WRITE_LIMIT)

    async def _drain(self, io: ConnectionIO, writer: asyncio.StreamWriter) -> None:
        try:
            await writer.drain()
        except OSError as error:
            if io.handler is not None:
                io.handler.cancel(f"Error sending data: {error}")

    async def open_connection(self, command: commands.OpenConnection) -> None:
        """As the engine's own, but dials only what was granted and only the addresses that were checked."""
        server = command.connection
        hook_data = server_hooks.ServerConnectionHookData(client=self.client, server=server)
        await self.handle_hook(server_hooks.ServerConnectHook(hook_data))
        verdict = self._granted(server)
        if server.error or verdict is None:
            await self._failed(command, hook_data, server.error or REFUSED)
            return
        try:
            reader, writer = await self._dial(server, verdict)
        except (DialError, UpstreamFailed) as error:
            if session := session_of(self.client.id):
                session.failure = error.failure
            await self._failed(command, hook_data, str(error))
        except asyncio.CancelledError:
            await self._failed(command, hook_data, CANCELLED)
            raise
        else:
            await self._serve_server(command, hook_data, verdict, reader, writer)

    def _granted(self, server: Server) -> Allowed | None:
        session = session_of(self.client.id)
        if session is None or server.address is None or server.transport_protocol != "tcp":
            return None
        return session.grants.get((server.address[0], server.address[1]))

    async def _dial(self, server: Server, verdict: Allowed) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert server.address
        server.timestamp_start = time.time()
        reached = None
        try:
            reached = await self._reach(verdict, server.address[1])
            return await streams_over(reached.sock, reached.early)
        except (DialError, UpstreamFailed):
            raise
        except Exception as error:
            if reached is not None:
                reached.sock.close()
            raise DialError(DialFailure.OTHER) from error

    async def _reach(self, verdict: Allowed, port: int) -> Reached:
        session = session_of(self.client.id)
        if verdict.upstream is not None:
            if session is None or session.tenant is None:
                raise DialError(DialFailure.OTHER)
            return await session.tenant.upstreams.open(verdict)
        if verdict.socket is None:
            return Reached(await dial(verdict.addresses, port))
        sockets = session.authority.sockets if session and session.authority else None
        if sockets is None:
            raise DialError(DialFailure.OTHER)
        return Reached(await sockets.dial(verdict.socket))

    async def _failed(
        self, command: commands.OpenConnection, hook_data: server_hooks.ServerConnectionHookData, error: str
    ) -> None:
        self.transports.pop(command.connection, None)
        command.connection.error = error
        await self.handle_hook(server_hooks.ServerConnectErrorHook(hook_data))
        await self.server_event(events.OpenConnectionCompleted(command, error))

    async def _serve_server(
        self,
        command: commands.OpenConnection,
        hook_data: server_hooks.ServerConnectionHookData,
        verdict: Allowed,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        server, session = command.connection, session_of(self.client.id)
        server.timestamp_tcp_setup = time.time()
        server.state = ConnectionState.OPEN
        # The ends of a unix socket, and of the bridge to an upstream proxy that wants TLS, have no host and port.
        server.peername = writer.get_extra_info("peername") if _is_internet(writer) else server.address
        server.sockname = writer.get_extra_info("sockname") if _is_internet(writer) else None
        self.transports[server] = ConnectionIO(handler=asyncio.current_task(), reader=reader, writer=writer)
        if session:
            session.dialled_under(server.id, verdict)
        deadline = asyncio.get_running_loop().call_later(TLS_DEADLINE, self._check_tls, server)
        await self.handle_hook(server_hooks.ServerConnectedHook(hook_data))
        await self.server_event(events.OpenConnectionCompleted(command, None))
        try:
            await self.handle_connection(server)
        finally:
            deadline.cancel()
            if session:
                session.closed(server.id)
            server.timestamp_end = time.time()
            await self.handle_hook(server_hooks.ServerDisconnectedHook(hook_data))

    def _check_tls(self, server: Server) -> None:
        if server.tls and not server.tls_established and server in self.transports:
            self.close_connection(server)


def _is_internet(writer: asyncio.StreamWriter) -> bool:
    return isinstance(writer.get_extra_info("peername"), tuple)


def install() -> None:
    """Makes every listener of this engine, also one that was started by hand, use the policed handler.

    There is no way back: when the bundle is unloaded, the handlers find no authority and grant nothing.
    """
    mode_servers.ProxyConnectionHandler = PolicedConnection  # type: ignore[misc]  # where the engine looks it up
