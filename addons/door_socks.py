"""One client of the SOCKS5 listener: a greeting, a request, and a tunnel as over CONNECT."""

from __future__ import annotations

import socket
from typing import assert_never

from codex_network_proxy.policy.decision import (
    UNSCOPED,
    Allowed,
    ClientScope,
    NetworkPolicyRequest,
    NetworkProtocol,
    Tunnel,
)
from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.responses import Refusal
from codex_network_proxy.socks.addressing import Target
from codex_network_proxy.socks.poller import READ
from codex_network_proxy.socks.protocol import Asked, Command, Foreign, Handshake, Reading, Refused, ReplyCode, reply

from . import socks_answers as answers
from .decision_log import log_socks_refusal
from .door_answers import socks_port
from .door_client import DoorClient
from .door_connect import Connect
from .door_reach import Unreached
from .doorway import Doorway
from .socks_targets import endpoint_of

_TUNNEL = Tunnel()

_VERSION_4 = 4
_REJECTED_BY_VERSION_4 = bytes((0, 0x5B, 0, 0, 0, 0, 0, 0))


class SocksConnection(DoorClient):
    """Serves one request; every refusal ends the connection (RFC 1928 section 6)."""

    __slots__ = ("_handshake",)

    def __init__(self, door: Doorway, sock: socket.socket, peer: str, scope: ClientScope = UNSCOPED) -> None:
        super().__init__(door, sock, peer, scope)
        self._handshake = Handshake()

    # -- the handshake -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.limit(self.door.idle)
        self.door.poller.watch(self.fd, self, READ)

    def ready(self, events: int) -> None:
        data = self.receive()
        if data:
            self._take(data)
        elif data is not None:
            self.close()

    def _take(self, data: bytes) -> None:
        if self._due is self.door.idle:
            self.limit(self.door.head_due)
        step = self._handshake.feed(data)
        match step:
            case Asked():
                if not step.answer or self.send(step.answer):
                    self._serve(step)
            case Reading():
                if step.answer:
                    self.send(step.answer)
            case Refused():
                self._reject(step.answer, step.why)
            case Foreign():
                self._turn_back(step.first)
            case _:
                assert_never(step)

    def _serve(self, asked: Asked) -> None:
        self.limit(None)
        match asked.command:
            case Command.CONNECT:
                self._connect(asked.target, asked.early)
            case Command.UDP_ASSOCIATE:
                self.door.associations.open(self, asked.target)
            case _:
                assert_never(asked.command)

    def _connect(self, target: Target, early: bytes) -> None:
        try:
            endpoint = endpoint_of(target)
        except InvalidHost as error:
            self._reject(reply(ReplyCode.NOT_ALLOWED), str(error))
            return
        Connect(self, early).decide(
            NetworkPolicyRequest(NetworkProtocol.SOCKS5_TCP, endpoint, _TUNNEL, None, self.peer, self.scope)
        )

    def _reject(self, answer: bytes, why: str) -> None:
        """A request that never reaches the policy. The client learns one byte; the reason is for the log."""
        log_socks_refusal(self.peer, why)
        self.finish(answer)

    def _turn_back(self, first: int) -> None:
        """A client that speaks something else, told so in its own language where that can be done."""
        if first == _VERSION_4:
            self._reject(_REJECTED_BY_VERSION_4, "the client speaks SOCKS4")
        elif chr(first).isascii() and chr(first).isalpha():
            self._reject(socks_port(self.door.http_address), "the client speaks HTTP")
        else:
            self._reject(b"", "the client does not speak SOCKS5")

    def overdue(self) -> None:
        self.finish(b"")

    def turn_away(self) -> None:
        # No answer of SOCKS5 says "busy" to a greeting; the one there is would blame the client's methods.
        self.finish(b"")

    # -- the answers to a request ------------------------------------------------------------------------------------

    def granted(self, upstream: socket.socket) -> bytes:
        return answers.granted(upstream)

    def pass_on(self, verdict: Allowed, early: bytes) -> None:
        self.hand_over(early, verdict)

    def refuse(self, verdict: Refusal, *, waiting: bool, ended: bool) -> None:
        self.finish(answers.refused(verdict), ended)

    def unreachable(self, verdict: Allowed, why: Unreached, *, waiting: bool, ended: bool) -> None:
        self.finish(answers.unreachable(why.kind), ended)
