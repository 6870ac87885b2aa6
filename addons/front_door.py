"""The HTTP listener: reads one request head, asks the authority, then answers, relays, or hands over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.socks.listener import Listener, bind, raise_descriptor_limit

from .door_connection import DoorConnection
from .doorway import DoorLimits, Doorway, Log
from .handover import DoorAuthority, Engine, TunnelObserver

__all__ = ["DoorLimits", "FrontDoor"]

logger = logging.getLogger("codex_network_proxy")


class FrontDoor:
    """Owns the HTTP listeners of one proxy. Use it inside a running event loop; not thread-safe.

    Without `fast_path` every connection goes to the engine, with the same decisions.
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
    ) -> None:
        self._build = partial(Doorway, authority, engine, limits or DoorLimits(), observer, fast_path, on_log)
        self._doorway: Doorway | None = None
        self._listeners: list[Listener] = []

    @property
    def taken(self) -> int:
        """Clients that are connected, tunnelled or handed over now."""
        return self._doorway.taken if self._doorway else 0

    def start(self, host: str, port: int) -> tuple[str, int]:
        """Listens on an IP address, port 0 for any, and returns the address as bound. May be called for several.

        Raises `OSError` with a text for people when the address is in use or not ours.
        """
        sock = bind(host, port)
        raise_descriptor_limit()
        if self._doorway is None:
            self._doorway = self._build()
        listener = Listener(self._doorway.poller, sock, partial(self._doorway.accepted, DoorConnection))
        self._listeners.append(listener)
        return listener.address

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> int:
        """Closes the open tunnels that `still_allowed` no longer holds for, within moments; how many."""
        return self._doorway.recheck(still_allowed) if self._doorway else 0

    def close(self) -> None:
        """Closes the listeners and every connection that was not handed over. Harmless when called again."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._doorway is not None:
            self._doorway.close()
            self._doorway = None
