"""One CONNECT that the door serves by itself: the decision, the dial, and the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    NetworkPolicyRequest,
    NetworkProtocol,
    Tunnel,
    Unavailable,
    Unresolved,
    Verdict,
)
from codex_network_proxy.policy.responses import connect_refusal
from codex_network_proxy.socks.dialler import Dial, DialFailure, Dialled
from codex_network_proxy.socks.poller import ERROR, READ

from . import door_answers as answers
from .door_tunnels import holds
from .http_head import HEAD_LIMIT, RequestHead

if TYPE_CHECKING:
    from codex_network_proxy.policy.hosts import Endpoint

    from .door_connection import DoorConnection

_TUNNEL = Tunnel()


class Connect:
    """Watches the client from the end of its CONNECT head until there is an answer.

    A client that goes away meanwhile stops the dial, but not the decision: it may be somebody else's as well.
    """

    __slots__ = ("_client", "_dial", "_ended", "_head", "_received", "_verdict")

    def __init__(self, client: DoorConnection, received: bytes, head: RequestHead) -> None:
        self._client = client
        self._received = received
        self._head = head
        self._verdict: Allowed | None = None
        self._dial: Dial | None = None
        self._ended = False  # the client has said that it will send no more

    # -- the decision ------------------------------------------------------------------------------------------------

    def decide(self, target: Endpoint) -> None:
        client = self._client
        request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, target, _TUNNEL, "CONNECT", client.peer)
        decision = client.door.decide(request)
        if decision.done():
            self._act_on(self._verdict_of(decision, request))
            return
        self._watch(READ)
        decision.add_done_callback(lambda _: self._guarded(lambda: self._decided(decision, request)))

    def _decided(self, decision: asyncio.Task[Verdict], request: NetworkPolicyRequest) -> None:
        if self._client.open:
            self._act_on(self._verdict_of(decision, request))

    def _verdict_of(self, decision: asyncio.Task[Verdict], request: NetworkPolicyRequest) -> Verdict:
        error = asyncio.CancelledError() if decision.cancelled() else decision.exception()
        if error is None:
            return decision.result()
        self._client.door.note(f"a decision failed ({type(error).__name__}); the request is denied")
        return answers.failed_decision(request)

    def _act_on(self, verdict: Verdict) -> None:
        match verdict:
            case Allowed(inspect=True):
                self._client.hand_over(self._received, verdict)
            case Allowed():
                self._dial_to(verdict)
            case Blocked() | Unresolved() | Unavailable():
                self._refuse(connect_refusal(verdict, close=not self._may_go_on()))
            case _:
                assert_never(verdict)

    # -- the dial ----------------------------------------------------------------------------------------------------

    def _dial_to(self, verdict: Allowed) -> None:
        door = self._client.door
        self._verdict = verdict
        dial = door.dialler.dial(
            verdict.addresses,
            verdict.request.port,
            lambda outcome: self._guarded(lambda: self._dialled(verdict, outcome)),
        )
        if self._verdict is not None:
            self._dial = dial
            self._watch(READ)
            door.dialling.add(self)

    def _dialled(self, verdict: Allowed, outcome: Dialled) -> None:
        client = self._client
        client.door.dialling.discard(self)
        self._verdict = self._dial = None
        if isinstance(outcome, DialFailure):
            self._refuse(answers.dial_failed(verdict, outcome.value, close=not self._may_go_on()))
            return
        try:
            relay = client.door.tunnels.open(client.sock, outcome, verdict, client.door.released)
        except Exception:
            client.door.poller.close_socket(outcome)
            raise
        client.leave()
        relay.start(answers.ESTABLISHED, self._received[self._head.length :], self._ended)

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> bool:
        """Gives up when the target of the dial is no longer allowed; whether it did."""
        if self._verdict is None or holds(still_allowed, self._verdict):
            return False
        self.close()
        return True

    def close(self) -> None:
        self._client.door.dialling.discard(self)
        if self._dial is not None:
            self._dial.cancel()
        self._client.close()

    # -- the client meanwhile ----------------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        if events & ERROR:
            self.close()
            return
        data = self._client.receive()
        if data:
            self._received += data
        elif data is not None:
            self._ended = True
        elif not self._client.open:
            self.close()
        if self._ended or len(self._received) >= HEAD_LIMIT:
            self._watch(0)

    def crashed(self, error: Exception) -> None:
        self.close()

    def _watch(self, mask: int) -> None:
        self._client.door.poller.watch(self._client.fd, self, mask)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Runs a step that no event of the client has started: it must not fail and leave the client waiting."""
        try:
            step()
        except Exception as error:
            self._client.door.contain(error)
            self.close()

    # -- no ----------------------------------------------------------------------------------------------------------

    def _may_go_on(self) -> bool:
        """Whether another head may follow a refused CONNECT.

        Not when the client sent bytes ahead: they were meant for the tunnel, and must not be read as a request.
        """
        return self._head.keeps_alive and not self._ended and len(self._received) == self._head.length

    def _refuse(self, answer: bytes) -> None:
        if not self._may_go_on():
            self._client.finish(answer, self._ended)
        elif self._client.send(answer):
            self._client.await_head()
