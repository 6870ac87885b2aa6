"""One tunnel that the door serves by itself: the decision, the way to the target, and the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import assert_never

from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    NetworkPolicyRequest,
    Unavailable,
    Unresolved,
    Verdict,
)
from codex_network_proxy.socks.poller import ERROR, READ

from .door_client import DoorClient
from .door_reach import Outcome, Reached, Way
from .door_tunnels import holds
from .http_head import HEAD_LIMIT
from .upstream_errors import UPSTREAM_FAILURE


class Connect:
    """Watches a client from the end of its request for a tunnel until there is an answer, which the client gives.

    A client that goes away meanwhile stops the dial, and whoever is asked to decide about it.
    """

    __slots__ = ("_client", "_deciding", "_early", "_ended", "_verdict", "_way")

    def __init__(self, client: DoorClient, early: bytes) -> None:
        self._client = client
        self._early = early  # what the client has sent for the tunnel
        self._ended = False  # the client has said that it will send no more
        self._deciding: tuple[asyncio.Task[Verdict], NetworkPolicyRequest] | None = None
        self._verdict: Allowed | None = None
        self._way: Way | None = None

    # -- the decision ------------------------------------------------------------------------------------------------

    def decide(self, request: NetworkPolicyRequest) -> None:
        decision = self._client.door.decide(request)
        if decision.done():
            self._act_on(self._client.door.verdict_of(decision, request))
            return
        self._deciding = decision, request
        self._client.door.deciding.add(self)
        self._watch(READ)
        decision.add_done_callback(lambda _: self._decided(decision, request))

    def _decided(self, decision: asyncio.Task[Verdict], request: NetworkPolicyRequest) -> None:
        if self._deciding != (decision, request):
            return  # it was made anew
        self._stop_waiting()
        if self._client.open:
            self._guarded(lambda: self._act_on(self._client.door.verdict_of(decision, request)))

    def _act_on(self, verdict: Verdict) -> None:
        match verdict:
            case Allowed(inspect=inspect):
                if inspect or not self._client.door.fast_path:
                    self._client.pass_on(verdict, self._early)
                else:
                    self._reach(verdict)
            case Blocked() | Unresolved() | Unavailable():
                self._client.refuse(verdict, waiting=self._is_waiting(), ended=self._ended)
            case _:
                assert_never(verdict)

    def _decide_anew(self, decision: asyncio.Task[Verdict], request: NetworkPolicyRequest) -> None:
        if decision.done() and self._client.open:
            self._stop_waiting()
            self._guarded(lambda: self.decide(request))

    def _stop_waiting(self) -> None:
        self._deciding = None
        self._client.door.deciding.discard(self)

    # -- the way -----------------------------------------------------------------------------------------------------

    def _reach(self, verdict: Allowed) -> None:
        door = self._client.door
        self._verdict = verdict
        way = door.reach(verdict, self._arrived)
        if self._verdict is not None:
            self._way = way
            self._watch(READ)
            door.dialling.add(self)

    def _arrived(self, outcome: Outcome) -> None:
        try:
            self._go_on(outcome)
        except Exception as error:
            self._fail(error)

    def _go_on(self, outcome: Outcome) -> None:
        client, verdict = self._client, self._verdict
        assert verdict is not None
        client.door.dialling.discard(self)
        self._verdict = self._way = None
        if not isinstance(outcome, Reached):
            client.door.authority.unreached(verdict, f"{UPSTREAM_FAILURE}: {outcome.text}")
            client.unreachable(verdict, outcome, waiting=self._is_waiting(), ended=self._ended)
            return
        try:
            answer = client.granted(outcome.sock) + outcome.early
            relay = client.door.tunnels.open(client.sock, outcome.sock, verdict, client.door.released)
        except Exception:
            client.door.poller.close_socket(outcome.sock)
            raise
        client.leave()
        relay.start(answer, self._early, self._ended)

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> bool:
        """Gives up when the target of the dial is no longer allowed; whether it did.

        A decision not acted on yet may be the old policy's: it is made anew.
        """
        if self._deciding is not None:
            self._decide_anew(*self._deciding)
            return False
        if self._verdict is None or holds(still_allowed, self._verdict):
            return False
        self.close()
        return True

    def close(self) -> None:
        self._client.door.dialling.discard(self)
        if self._way is not None:
            self._way.cancel()
        self._client.close()
        self._leave()

    # -- the client meanwhile ----------------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        if events & ERROR:
            self.close()
            return
        data = self._client.receive()
        if data:
            self._early += data
        elif data is not None:
            self._ended = True
            self._leave()
        elif not self._client.open:
            self.close()
        if self._ended or len(self._early) >= HEAD_LIMIT:
            self._watch(0)

    def crashed(self, error: Exception) -> None:
        self.close()

    def _leave(self) -> None:
        """Who has ended its side before the answer is taken for gone; that cannot be told apart."""
        if self._deciding is not None:
            self._client.door.client_left(self._client.peer)

    def _is_waiting(self) -> bool:
        """Whether the client has sent nothing for the tunnel, and may still speak."""
        return not self._ended and not self._early

    def _watch(self, mask: int) -> None:
        self._client.door.poller.watch(self._client.fd, self, mask)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Runs a step that no event of the client has started: it must not fail and leave the client waiting."""
        try:
            step()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._client.door.contain(error)
        self.close()
