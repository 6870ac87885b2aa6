"""The one narrow way from the door into the engine: a socket, what was read from it, and what was decided."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from codex_network_proxy.policy.decision import (
    UNSCOPED,
    Allowed,
    Blocked,
    BlockReason,
    ClientScope,
    NetworkPolicyRequest,
    Verdict,
)

if TYPE_CHECKING:
    from .own_listeners import OwnListeners


@dataclass(frozen=True, slots=True)
class HandOver:
    """A client connection that must be understood, not only relayed.

    `sock` is non-blocking and belongs to the engine from now on. `received` holds every byte read so far, the
    request head first. `verdict` is the decision on the CONNECT target when the door made one; without it the
    addon chain decides. `done` is called exactly once, when the engine has closed the connection. `scope` is what the
    embedding code said of the client.

    A verdict on SOCKS5 means that the client still waits for the reply to its request; `received` is what it sent
    after it, for the tunnel.
    """

    sock: socket.socket
    received: bytes = field(repr=False)
    client_address: str
    verdict: Allowed | None
    done: Callable[[], None]
    scope: ClientScope = UNSCOPED


class Engine(Protocol):
    """What understands HTTP and TLS, for the clients of one proxy."""

    def take(self, handover: HandOver) -> None:
        """Takes the connection over without waiting. Never raises; a connection it cannot serve is closed."""
        ...


class DoorAuthority(Protocol):
    """The only holder of policy state. It audits and records each verdict before it returns it."""

    async def decide(self, request: NetworkPolicyRequest) -> Verdict:
        """Answers without suspending when neither a decider nor the resolver is needed. Never raises."""
        ...

    def client_left(self, client_address: str) -> None:
        """A client is gone, or will send no more: nobody need think about it any longer."""
        ...

    def deny(self, request: NetworkPolicyRequest, reason: BlockReason) -> Blocked:
        """A block for a reason that the policy cannot see, audited and recorded as well."""
        ...

    def unreached(self, allowed: Allowed, why: str) -> None:
        """The target of a tunnel that was allowed could not be reached; `why` is what the client is told."""
        ...

    @property
    def own_relays(self) -> OwnListeners:
        """The ports at which the door relays datagrams: a decision lets nobody send there."""
        ...

    @property
    def serves_udp(self) -> bool | None:
        """Whether SOCKS5 clients may have UDP associations; `None` while the configuration is broken."""
        ...


@dataclass(frozen=True, slots=True)
class TunnelReport:
    """A relayed tunnel, for mitmweb and the log: where it went and how much, never what."""

    verdict: Allowed
    peer: str
    bytes_up: int
    bytes_down: int
    started: float
    ended: float | None


class TunnelObserver(Protocol):
    def tunnel_opened(self, report: TunnelReport) -> None: ...

    def tunnel_closed(self, report: TunnelReport) -> None: ...
