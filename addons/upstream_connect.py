"""One CONNECT to an upstream proxy, without I/O: the request, and a strict reading of a bounded answer."""

from __future__ import annotations

import h11

from codex_network_proxy.policy.hosts import Endpoint
from codex_network_proxy.socks.dialler import DialFailure

ANSWER_LIMIT = 16 * 1024
"""Bytes of everything that an upstream proxy may send up to the end of its answer's head."""

CLOSED = "the upstream proxy closed the connection"
MALFORMED = "the upstream proxy sent no valid HTTP response"
TOO_LARGE = "the upstream proxy's response head is too large"
NEEDS_CREDENTIALS = "the upstream proxy requires authentication"
WRONG_CREDENTIALS = "the upstream proxy did not accept the credentials"

_KINDS = {
    502: DialFailure.HOST_UNREACHABLE,
    503: DialFailure.HOST_UNREACHABLE,
    504: DialFailure.TIMED_OUT,
}


class UpstreamFailed(Exception):
    """The upstream proxy did not open the way. The text is fit for the client: it holds nothing that was received."""

    def __init__(self, text: str, failure: DialFailure = DialFailure.OTHER) -> None:
        super().__init__(text)
        self.failure = failure


class ConnectExchange:
    """Asks for a tunnel to `target` and takes the answer in, in any pieces.

    `request` is what to send; it may hold a secret. `room` says how many bytes the answer's head may still have.
    """

    def __init__(self, target: Endpoint, authorization: str | None) -> None:
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=ANSWER_LIMIT)
        self._authorized = authorization is not None
        headers = [("Host", str(target))]
        if authorization is not None:
            headers.append(("Proxy-Authorization", authorization))
        asked = self._h11.send(h11.Request(method="CONNECT", target=str(target), headers=headers))
        self.request: bytes = (asked or b"") + (self._h11.send(h11.EndOfMessage()) or b"")
        self.room = ANSWER_LIMIT

    def receive(self, data: bytes) -> bytes | None:
        """What came behind the head of a `2xx` answer, possibly nothing; `None` while the head is incomplete.

        `data` is empty at the end of the stream. Raises `UpstreamFailed` for every other answer.
        """
        if not data:
            raise UpstreamFailed(CLOSED, DialFailure.REFUSED)
        self.room -= len(data)
        self._h11.receive_data(data)
        answer = self._answer()
        if answer is not None:
            self._check(answer.status_code)
            return self._h11.trailing_data[0]
        if self.room <= 0:
            raise UpstreamFailed(TOO_LARGE)
        return None

    def _answer(self) -> h11.Response | None:
        try:
            event = self._h11.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = self._h11.next_event()
        except h11.RemoteProtocolError:
            raise UpstreamFailed(MALFORMED) from None  # what h11 says of it quotes what came
        return event if isinstance(event, h11.Response) else None

    def _check(self, status: int) -> None:
        if status == 407:
            raise UpstreamFailed(WRONG_CREDENTIALS if self._authorized else NEEDS_CREDENTIALS, DialFailure.REFUSED)
        if not 200 <= status <= 299:
            raise UpstreamFailed(f"the upstream proxy answered {status}", _KINDS.get(status, DialFailure.REFUSED))
