"""Listeners of their own for single clients, so that a decider knows which command asks (spec B9.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codex_network_proxy.policy.decision import ClientScope
from codex_network_proxy.socks.listener import address_text

from .runtime import Runtime

Start = Callable[[str, int, ClientScope], tuple[str, int]]


@dataclass(frozen=True, slots=True)
class ScopeListeners:
    """Where the clients of one scope come in, `ip:port`."""

    scope: ClientScope
    http: str
    socks: str | None


def open_scope(runtime: Runtime, scope: ClientScope) -> ScopeListeners:
    """Listens on free ports, beside the proxy's own listeners and for the same protocols.

    Raises `OSError` when there is none, and `RuntimeError` when the proxy does not run.
    """
    door = runtime.door
    if door is None or runtime.http_address is None:
        raise RuntimeError("the proxy does not run")
    try:
        http = _listen(runtime, door.start, runtime.http_address, scope)
        socks = _listen(runtime, door.start_socks, runtime.socks_address, scope) if runtime.socks_address else None
    except OSError:
        door.close_scope(scope)
        raise
    return ScopeListeners(scope, http, socks)


def close_scope(runtime: Runtime, opened: ScopeListeners) -> None:
    """Closes the listeners, and every connection through them that the engine does not have."""
    if runtime.door is not None:
        runtime.door.close_scope(opened.scope)
    for address in (opened.http, opened.socks):
        if address is not None:
            runtime.authority.own_listeners.discard(_port(address))


def _listen(runtime: Runtime, start: Start, beside: str, scope: ClientScope) -> str:
    address = start(beside.rpartition(":")[0].strip("[]"), 0, scope)
    # Nobody may come in there through the proxy itself, and pass for this client.
    runtime.authority.own_listeners.add(address[1])
    return address_text(address)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
