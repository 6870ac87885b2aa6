"""UDP ASSOCIATE at the door: each destination is decided on as a tunnel is, audited, shown, and cut by a new policy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, assert_never

from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    BlockReason,
    ClientScope,
    IPAddress,
    NetworkPolicyRequest,
    NetworkProtocol,
    Unavailable,
    Unresolved,
    Verdict,
)
from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.hosts import parse_host
from codex_network_proxy.socks.addressing import Target
from codex_network_proxy.socks.protocol import ReplyCode, reply
from codex_network_proxy.socks.udp import Association, Shared, UdpLimits
from codex_network_proxy.socks.udp_destination import Destination

from .decision_log import log_association, log_socks_refusal
from .door_tunnels import Reports, holds
from .handover import TunnelReport
from .socks_targets import endpoint_of

if TYPE_CHECKING:
    from .door_client import DoorClient
    from .doorway import Doorway


class Associations:
    """Every UDP association of a door."""

    def __init__(self, door: Doorway, loop: asyncio.AbstractEventLoop, limits: UdpLimits, reports: Reports) -> None:
        self.door = door
        self.shared = Shared(loop, door.poller, limits)
        self.reports = reports
        self.relays = door.authority.own_relays
        self._clients: set[UdpClient] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def open(self, client: DoorClient, claimed: Target) -> None:
        """Answers a request for an association and relays until `client` closes its connection.

        `claimed` is the address that it says it will send from; zeros, as most clients send them, say nothing.
        """
        refusal = self._refusal(client, claimed)
        if refusal is not None:
            _refuse(client, *refusal)
            return
        try:
            taken = UdpClient(self, client, claimed.port)
        except OSError as error:
            _refuse(client, ReplyCode.GENERAL_FAILURE, f"no socket for UDP ({error.strerror})")
            return
        client.leave()
        self._clients.add(taken)
        taken.association.start(reply(ReplyCode.SUCCEEDED, taken.association.address))

    def closed(self, client: UdpClient) -> None:
        self._clients.discard(client)
        self.relays.discard(client.association.address[1])
        self.door.released()

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> int:
        """Cuts the destinations that `still_allowed` refuses, and lets the denied ones be judged anew; how many."""
        if self.door.authority.serves_udp is False:
            count = sum(client.sending_to for client in self._clients)
            self._end_all()
            return count
        return sum(client.recheck(still_allowed) for client in list(self._clients))

    def close_scope(self, scope: ClientScope) -> None:
        """Ends the associations of one scope."""
        for client in [each for each in self._clients if each.scope is scope]:
            client.association.close()

    def close(self) -> None:
        """Ends every association, and every time limit."""
        self._end_all()
        self.shared.close()

    def _end_all(self) -> None:
        for client in list(self._clients):
            client.association.close()

    def _refusal(self, client: DoorClient, claimed: Target) -> tuple[ReplyCode, str] | None:
        served = self.door.authority.serves_udp
        if served is None:
            return ReplyCode.GENERAL_FAILURE, "the configuration is broken"
        if not served:
            return ReplyCode.COMMAND_NOT_SUPPORTED, "enable_socks5_udp is false"
        address = _claimed_address(claimed)
        if address is None:
            # To resolve it would be a look-up that no rule has allowed.
            return ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED, "UDP ASSOCIATE names a host and not an address"
        if not address.is_unspecified and address != parse_host(client.peer.rpartition(":")[0]).address:
            return ReplyCode.NOT_ALLOWED, "UDP ASSOCIATE names another address than the client's"
        return None


@dataclass(frozen=True, slots=True)
class _Open:
    verdict: Allowed
    report: TunnelReport | None


class UdpClient:
    """One client's association, and what was decided on each of its destinations."""

    __slots__ = ("_all", "_deciding", "_open", "_peer", "association", "scope")

    def __init__(self, associations: Associations, client: DoorClient, claimed_port: int) -> None:
        """Raises `OSError` when there is no socket for the relay."""
        self._all = associations
        self._peer = client.peer
        self.scope = client.scope
        self._deciding: dict[Destination, asyncio.Task[Verdict]] = {}
        self._open: dict[Destination, _Open] = {}
        self.association = Association(associations.shared, client.sock, claimed_port, self)
        associations.relays.add(self.association.address[1])

    @property
    def sending_to(self) -> int:
        """Destinations that datagrams are sent to."""
        return len(self._open)

    # -- for the association -----------------------------------------------------------------------------------------

    def judge(self, destination: Destination) -> None:
        try:
            endpoint = endpoint_of(destination.target)
        except InvalidHost as error:
            log_socks_refusal(self._peer, str(error))
            destination.deny()
            return
        request = NetworkPolicyRequest(
            NetworkProtocol.SOCKS5_UDP, endpoint, client_address=self._peer, scope=self.scope
        )
        decision = self._all.door.decide(request)
        if decision.done():
            self._act_on(destination, self._all.door.verdict_of(decision, request))
            return
        self._deciding[destination] = decision
        decision.add_done_callback(partial(self._decided, destination, request))

    def forgotten(self, destination: Destination) -> None:
        if decision := self._deciding.pop(destination, None):
            decision.cancel()
        if opened := self._open.pop(destination, None):
            self._all.reports.closed(opened.report, destination.bytes_up, destination.bytes_down)

    def closed(self, association: Association) -> None:
        log_association(self._peer, association.dropped)
        self._all.closed(self)

    # -- the decision ------------------------------------------------------------------------------------------------

    def _decided(
        self, destination: Destination, request: NetworkPolicyRequest, decision: asyncio.Task[Verdict]
    ) -> None:
        if self._deciding.get(destination) is not decision:
            return  # nobody waits for it any more
        del self._deciding[destination]
        try:
            self._act_on(destination, self._all.door.verdict_of(decision, request))
        except Exception as error:
            self._all.door.contain(error)
            self.association.close()

    def _act_on(self, destination: Destination, verdict: Verdict) -> None:
        match verdict:
            case Allowed():
                self._allow(destination, verdict)
            case Blocked():
                destination.deny()
            case Unresolved() | Unavailable():
                destination.fail()
            case _:
                assert_never(verdict)

    def _allow(self, destination: Destination, verdict: Allowed) -> None:
        if verdict.inspect:  # nothing reads datagrams
            self._all.door.authority.deny(verdict.request, BlockReason.MITM_REQUIRED)
            destination.deny()
        elif destination.allow(verdict.addresses):
            self._open[destination] = _Open(verdict, self._all.reports.opened(verdict, lambda: destination.peer))

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> int:
        """See `Associations.recheck`. A decision not acted on yet may be the old policy's: asked for anew."""
        cut = 0
        for destination in self.association.destinations:
            decision, opened = self._deciding.get(destination), self._open.get(destination)
            if decision is not None:
                if decision.done():
                    del self._deciding[destination]
                    self.judge(destination)
            elif opened is None:
                destination.forget()
            elif not holds(still_allowed, opened.verdict):
                destination.forget()
                cut += 1
        return cut


def _refuse(client: DoorClient, code: ReplyCode, why: str) -> None:
    log_socks_refusal(client.peer, why)
    client.finish(reply(code))


def _claimed_address(claimed: Target) -> IPAddress | None:
    """The address that a client says it sends from. Some spell one as a domain: PySocks writes `0` for zeros."""
    host = claimed.host
    try:
        return parse_host(host.decode("ascii") if isinstance(host, bytes) else str(host)).address
    except ValueError:
        return None
