"""The ways into the proxy, with one face: ask for a host and port, get an outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .answers import check_json_block, check_refusal, check_text_block, reason_of_text
from .proxy import ProxyProcess
from .raw import Client
from .wire import Response

PASSED, REFUSED, FAILED = "passed", "refused", "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the client learned. `word` is `passed`, `refused` (400), `failed` (502), or the reason of a block."""

    word: str
    answer: Response

    @property
    def origin(self) -> str | None:
        return self.answer.get("x-origin")


class Door(Protocol):
    """One way in. `ask` sends `host` and `port` as these very bytes."""

    name: str

    def ask(self, proxy: ProxyProcess, host: bytes, port: bytes, path: bytes = b"/t") -> Outcome: ...

    def check(self, outcome: Outcome) -> None:
        """The whole form of the answer, beyond its meaning."""
        ...


def _word(answer: Response, reason: str) -> str:
    by_status = {200: PASSED, 400: REFUSED, 502: FAILED}
    if answer.status in by_status:
        return by_status[answer.status]
    assert answer.status == 403, answer
    return reason


class PlainDoor:
    """A GET in absolute form."""

    name = "plain"

    def ask(self, proxy: ProxyProcess, host: bytes, port: bytes, path: bytes = b"/t") -> Outcome:
        authority = host + (b":" + port if port else b"")
        head = b"GET http://%b%b HTTP/1.1\r\nHost: %b\r\n\r\n" % (authority, path, authority)
        with Client(proxy.http) as client:
            answer = client.ask(head)
        return Outcome(_word(answer, answer.json()["reason"] if answer.status == 403 else ""), answer)

    def check(self, outcome: Outcome) -> None:
        if outcome.answer.status == 403:
            check_json_block(outcome.answer, outcome.word)
        elif outcome.word != PASSED:
            check_refusal(outcome.answer, outcome.answer.status)


class ConnectDoor:
    """A CONNECT, and when it is granted a GET inside the tunnel."""

    name = "connect"

    def ask(self, proxy: ProxyProcess, host: bytes, port: bytes, path: bytes = b"/t") -> Outcome:
        authority = host + (b":" + port if port else b"")
        with Client(proxy.http) as client:
            answer = client.ask(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (authority, authority), "CONNECT")
            if answer.status == 200:
                answer = client.ask(b"GET %b HTTP/1.1\r\nHost: inner.test\r\n\r\n" % path)
        return Outcome(_word(answer, reason_of_text(answer) if answer.status == 403 else ""), answer)

    def check(self, outcome: Outcome) -> None:
        if outcome.answer.status == 403:
            check_text_block(outcome.answer, outcome.word)
        elif outcome.word != PASSED:
            check_refusal(outcome.answer, outcome.answer.status)


PLAIN: Door = PlainDoor()
CONNECT: Door = ConnectDoor()
DOORS: tuple[Door, ...] = (PLAIN, CONNECT)
