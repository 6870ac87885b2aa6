"""What the clients of one front door share: poller, time limits, dialler, tunnels, and the count of all of them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from codex_network_proxy.policy.decision import Allowed, ClientScope, NetworkPolicyRequest, Verdict
from codex_network_proxy.socks.deadlines import Deadlines
from codex_network_proxy.socks.dialler import Dialler
from codex_network_proxy.socks.poller import Poller
from codex_network_proxy.socks.udp import UdpLimits

from .door_answers import failed_decision
from .door_client import DoorClient
from .door_connect import Connect
from .door_reach import Outcome, Way, arrive
from .door_tunnels import Tunnels
from .door_udp import Associations
from .handover import DoorAuthority, Engine, HandOver, TunnelObserver
from .upstreams import Upstreams

Log = Callable[[int, str], None]

# Clients beyond the limit that may wait for their last answer at the same time; more are closed at once.
TURNED_AWAY_AT_ONCE = 64


UDP_LIMITS = UdpLimits()

ClientKind = Callable[["Doorway", socket.socket, str, ClientScope], DoorClient]
"""Makes the client of a new connection from `ip:port`, in the protocol that its listener speaks."""


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """How much a client may take. Times in seconds."""

    connections: int = 4096  # clients at one time: waiting, tunnelled and handed over
    head_seconds: float = 10.0  # from the first byte of a request to its last
    idle_seconds: float = 60.0  # without a first byte
    linger_seconds: float = 1.0  # from the last answer to the close
    dial_seconds: float = 10.0
    fallback_seconds: float = 0.25  # head start of one address over the next
    udp: UdpLimits = UDP_LIMITS


class Doorway:
    """The running parts of a front door. Lives as long as its event loop serves it."""

    def __init__(
        self,
        authority: DoorAuthority,
        engine: Engine,
        limits: DoorLimits,
        observer: TunnelObserver | None,
        fast_path: bool,
        log: Log,
        upstreams: Upstreams | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.fast_path = fast_path
        self.http_address: str | None = None  # for clients that mistake one port for the other
        self.poller = Poller(loop, self.contain)
        self.dialler = Dialler(loop, self.poller, fallback=limits.fallback_seconds, limit=limits.dial_seconds)
        self.tunnels = Tunnels(loop, self.poller, observer)
        self.idle: Deadlines[DoorClient] = Deadlines(loop, limits.idle_seconds, DoorClient.close)
        self.head_due: Deadlines[DoorClient] = Deadlines(loop, limits.head_seconds, lambda client: client.overdue())
        self.lingering: Deadlines[DoorClient] = Deadlines(loop, limits.linger_seconds, DoorClient.close)
        self.connections: set[DoorClient] = set()
        self.deciding: set[Connect] = set()
        self.dialling: set[Connect] = set()
        self._loop = loop
        self.authority = authority
        self._engine = engine
        self._limit = limits.connections
        self._log = log
        self._upstreams = upstreams
        self._taken = 0
        self._decisions: set[asyncio.Task[Verdict]] = set()
        self.associations = Associations(self, loop, limits.udp, self.tunnels.reports)

    @property
    def taken(self) -> int:
        """Clients that count against the limit now."""
        return self._taken

    def accepted(self, speaks: ClientKind, scope: ClientScope, sock: socket.socket, peer: str) -> None:
        """Takes a new client in, or turns it away."""
        if self._taken >= self._limit + TURNED_AWAY_AT_ONCE:
            sock.close()
            return
        self._taken += 1
        client = speaks(self, sock, peer, scope)
        self.connections.add(client)
        try:
            if self._taken <= self._limit:
                client.begin()
            else:
                client.turn_away()
        except Exception as error:
            self.contain(error)
            client.close()

    def released(self) -> None:
        """A client is gone for good."""
        self._taken -= 1

    def decide(self, request: NetworkPolicyRequest) -> asyncio.Task[Verdict]:
        """The decision, already done when the authority did not have to wait for anybody."""
        decision = asyncio.Task(self.authority.decide(request), loop=self._loop, eager_start=True)
        if not decision.done():
            self._decisions.add(decision)
            decision.add_done_callback(self._decisions.discard)
        return decision

    def client_left(self, peer: str) -> None:
        """A client is gone, or will send no more, before it has got its answer."""
        self.authority.client_left(peer)

    def verdict_of(self, decision: asyncio.Task[Verdict], request: NetworkPolicyRequest) -> Verdict:
        """What was decided; a decision that failed or was cancelled is a deny."""
        try:
            return decision.result()
        except BaseException as error:  # also a decider that exits: it ends this one request
            self.note(f"a decision failed ({type(error).__name__}); the request is denied")
            return failed_decision(request)

    def reach(self, verdict: Allowed, on_done: Callable[[Outcome], None]) -> Way:
        """Opens the way to an allowed target; `on_done` is told the end of it, possibly before this returns."""
        if verdict.upstream is not None:
            if self._upstreams is None:
                raise RuntimeError("there is no way through upstream proxies")
            return self._upstreams.reach(verdict, on_done)
        return self.dialler.dial(verdict.addresses, verdict.request.port, partial(arrive, on_done))

    def hand_over(
        self, sock: socket.socket, received: bytes, peer: str, verdict: Allowed | None, scope: ClientScope
    ) -> None:
        """Gives the client to the engine; it counts until the engine is done with it."""
        done = _Once(self.released)
        try:
            self._engine.take(HandOver(sock, received, peer, verdict, done, scope))
        except Exception as error:
            self.contain(error)
            sock.close()
            done()

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> int:
        """Ends what a new policy no longer allows: tunnels, dials under way, destinations over UDP. How many."""
        dials = sum(connect.recheck(still_allowed) for connect in [*self.deciding, *self.dialling])
        return dials + self.tunnels.recheck(still_allowed) + self.associations.recheck(still_allowed)

    def close_scope(self, scope: ClientScope) -> None:
        """Closes every connection of one scope that was not handed over."""
        # Not equal ones: two scopes may say the same of two clients.
        self.recheck(lambda allowed: allowed.request.scope is not scope)
        self.associations.close_scope(scope)
        for client in [each for each in self.connections if each.scope is scope]:
            client.close()
            self.client_left(client.peer)

    def close(self) -> None:
        for connect in list(self.dialling):
            connect.close()
        for connection in list(self.connections):
            connection.close()
        self.tunnels.close()
        self.associations.close()
        for decision in list(self._decisions):
            decision.cancel()
        for deadlines in (self.idle, self.head_due, self.lingering):
            deadlines.close()
        self.dialler.close()
        self.poller.close()

    def note(self, text: str) -> None:
        """Logs something that should not have happened. `text` holds nothing that a client sent."""
        self._log(logging.ERROR, text)

    def contain(self, error: Exception) -> None:
        """An error ended one connection; the door stays open."""
        # The text of the error may hold what the client sent: only its kind is logged.
        self.note(f"a connection was closed after an internal error ({type(error).__name__})")


class _Once:
    """A callable that passes on its first call only."""

    __slots__ = ("_action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def __call__(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()
