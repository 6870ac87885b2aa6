"""The listeners, for HTTP and for SOCKS5: a request is read and judged; then answered, relayed, or handed over."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from functools import partial

from codex_network_proxy.policy.decision import UNSCOPED, Allowed, ClientScope
from codex_network_proxy.socks.listener import Listener, address_text, bind

from .door_connection import DoorConnection
from .door_socks import SocksConnection
from .doorway import ClientKind, DoorLimits, Doorway, Log
from .handover import DoorAuthority, Engine, TunnelObserver
from .upstreams import Upstreams

__all__ = ["DoorLimits", "FrontDoor"]

logger = logging.getLogger("codex_network_proxy")


class FrontDoor:
    """Owns the listeners of one proxy, whose clients share its limits. Needs a running event loop; not thread-safe.

    Without `fast_path` every connection goes to the engine, with the same decisions. Without `upstreams` a target that
    may be reached through an upstream proxy only is not reached.
    """

    def __init__(
        self,
        authority: DoorAuthority,
        engine: Engine,
        *,
        limits: DoorLimits | None = None,
        observer: TunnelObserver | None = None,
        fast_path: bool = True,
        on_log: Log = logger.log,
        upstreams: Upstreams | None = None,
    ) -> None:
        limits = limits or DoorLimits()
        self._build = partial(Doorway, authority, engine, limits, observer, fast_path, on_log, upstreams)
        self._doorway: Doorway | None = None
        self._listeners: list[tuple[ClientScope, Listener]] = []

    @property
    def taken(self) -> int:
        """Clients that are connected, tunnelled or handed over now."""
        return self._doorway.taken if self._doorway else 0

    def start(self, host: str, port: int, scope: ClientScope = UNSCOPED) -> tuple[str, int]:
        """Listens on an IP address, port 0 for any, and returns the address as bound. May be called for several.

        `scope` is what the embedding code says of whoever comes in there. Raises `OSError` with a text for people when
        the address is in use or not ours.
        """
        return self.serve(bind(host, port), scope)

    def serve(self, sock: socket.socket, scope: ClientScope = UNSCOPED) -> tuple[str, int]:
        """`start` on a socket that listens already, which is the door's from now on."""
        doorway, address = self._listen(sock, DoorConnection, scope)
        doorway.http_address = doorway.http_address or address_text(address)
        return address

    def start_socks(self, host: str, port: int, scope: ClientScope = UNSCOPED) -> tuple[str, int]:
        """`start` for clients that speak SOCKS5."""
        return self.serve_socks(bind(host, port), scope)

    def serve_socks(self, sock: socket.socket, scope: ClientScope = UNSCOPED) -> tuple[str, int]:
        """`serve` for clients that speak SOCKS5."""
        return self._listen(sock, SocksConnection, scope)[1]

    def _listen(self, sock: socket.socket, speaks: ClientKind, scope: ClientScope) -> tuple[Doorway, tuple[str, int]]:
        sock.setblocking(False)
        if self._doorway is None:
            self._doorway = self._build()
        listener = Listener(self._doorway.poller, sock, partial(self._doorway.accepted, speaks, scope))
        self._listeners.append((scope, listener))
        return self._doorway, listener.address

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> int:
        """Closes the open tunnels that `still_allowed` no longer holds for, within moments; how many."""
        return self._doorway.recheck(still_allowed) if self._doorway else 0

    def close_scope(self, scope: ClientScope) -> None:
        """Closes the listeners that were started with this very scope, and their connections as `close` does."""
        for _, listener in [entry for entry in self._listeners if entry[0] is scope]:
            listener.close()
        self._listeners = [entry for entry in self._listeners if entry[0] is not scope]
        if self._doorway is not None:
            self._doorway.close_scope(scope)

    def close(self) -> None:
        """Closes the listeners and every connection that was not handed over. Harmless when called again."""
        for _, listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._doorway is not None:
            self._doorway.close()
            self._doorway = None
