"""One client of the HTTP listener: reads a head, and serves a CONNECT by itself or leaves the rest to the engine."""

from __future__ import annotations

import socket

from codex_network_proxy.policy.decision import (
    UNSCOPED,
    Allowed,
    ClientScope,
    NetworkPolicyRequest,
    NetworkProtocol,
    Tunnel,
)
from codex_network_proxy.policy.responses import Refusal, connect_refusal
from codex_network_proxy.socks.poller import READ

from . import door_answers as answers
from .decision_log import log_bad_head
from .door_client import DoorClient
from .door_connect import Connect
from .door_reach import Unreached
from .doorway import Doorway
from .http_head import (
    HEAD_LIMIT,
    BadHead,
    RequestHead,
    check_incomplete,
    check_request_head,
    connect_request,
    find_head_end,
)

_TUNNEL = Tunnel()

_EMPTY_LINE = b"\r\n"
"""Tolerated before a request (RFC 9112 section 2.2)."""


class DoorConnection(DoorClient):
    """Reads one request head at a time."""

    __slots__ = ("_head", "_received")

    def __init__(self, door: Doorway, sock: socket.socket, peer: str, scope: ClientScope = UNSCOPED) -> None:
        super().__init__(door, sock, peer, scope)
        self._received = bytearray()
        self._head: tuple[RequestHead, bytes] | None = None

    # -- a head ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Reads the next head, in a limited time."""
        self._received.clear()
        self.limit(self.door.idle)
        self.door.poller.watch(self.fd, self, READ)

    def ready(self, events: int) -> None:
        data = self.receive()
        if data:
            try:
                self._take(data)
            except BadHead as error:
                log_bad_head(error, self.peer)
                self.finish(answers.bad_head(error))
        elif data is not None:
            self.close()

    def _take(self, data: bytes) -> None:
        received = self._received
        searched = len(received)
        if not searched:
            data = data.removeprefix(_EMPTY_LINE)
        else:
            received += data
            if received.startswith(_EMPTY_LINE):
                del received[: len(_EMPTY_LINE)]
                searched = max(0, searched - len(_EMPTY_LINE))
            data = bytes(received) if b"\n" in data else b""
        end = find_head_end(data, searched)
        if end is None or end > HEAD_LIMIT:
            self._wait_for_more(data, searched)
        else:
            self._act_on(data, end)

    def _wait_for_more(self, data: bytes, searched: int) -> None:
        if data and not self._received:
            self._received += data
            if self._due is not self.door.head_due:  # empty lines must not put the end off
                self.limit(self.door.head_due)
        check_incomplete(self._received, searched)

    def _act_on(self, received: bytes, end: int) -> None:
        self.limit(None)
        if not (received.startswith(b"CONNECT ") and self.door.fast_path):
            check_request_head(received[:end])
            self.hand_over(received, None)
            return
        raw = received[:end]
        head, target = connect_request(raw)
        self._head = head, raw
        Connect(self, received[end:]).decide(
            NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, target, _TUNNEL, "CONNECT", self.peer, self.scope)
        )

    def overdue(self) -> None:
        self.finish(answers.head_too_late())

    def turn_away(self) -> None:
        self.finish(answers.too_many_connections())

    # -- the answers to a CONNECT ------------------------------------------------------------------------------------

    def granted(self, upstream: socket.socket) -> bytes:
        return answers.ESTABLISHED

    def pass_on(self, verdict: Allowed, early: bytes) -> None:
        assert self._head
        self.hand_over(self._head[1] + early, verdict)

    def refuse(self, verdict: Refusal, *, waiting: bool, ended: bool) -> None:
        goes_on = self._may_go_on(waiting)
        self._say_no(connect_refusal(verdict, close=not goes_on), goes_on, ended)

    def unreachable(self, verdict: Allowed, why: Unreached, *, waiting: bool, ended: bool) -> None:
        goes_on = self._may_go_on(waiting)
        self._say_no(answers.dial_failed(verdict, why.text, close=not goes_on), goes_on, ended)

    def _may_go_on(self, waiting: bool) -> bool:
        """Whether another head may follow a refused CONNECT.

        Not when the client sent bytes ahead: they were meant for the tunnel, and must not be read as a request.
        """
        return waiting and self._head is not None and self._head[0].keeps_alive

    def _say_no(self, answer: bytes, goes_on: bool, ended: bool) -> None:
        if not goes_on:
            self.finish(answer, ended)
        elif self.send(answer):
            self.begin()
