"""The ways into the proxy, with one face: ask for a host and port, get an outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .answers import check_json_block, check_refusal, check_text_block, reason_of_text
from .proxy import ProxyProcess
from .raw import Client
from .socks_client import IPAddress, SocksClient, SocksReply, parse_literal
from .wire import Head, Response

PASSED, REFUSED, FAILED = "passed", "refused", "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the client learned. `word` is `passed`, `refused` (400), `failed` (502), or the reason of a block.

    `recorded` is the id of the audit event, where the client is not told.
    """

    word: str
    answer: Response
    recorded: str | None = None

    @property
    def origin(self) -> str | None:
        return self.answer.get("x-origin")

    @property
    def request_id(self) -> str:
        """The id of a block, for the audit log."""
        return self.recorded or self.answer.get("x-proxy-request-id") or ""


class Door(Protocol):
    """One way in. `protocol` is its name in the audit log."""

    name: str
    protocol: str

    def can_ask(self, host: bytes, port: bytes | None) -> bool:
        """Whether these bytes can be said here; no `port` is any number."""
        ...

    def ask(self, proxy: ProxyProcess, host: bytes, port: bytes, path: bytes = b"/t") -> Outcome:
        """Sends `host` and `port` as these very bytes."""
        ...

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
    protocol = "http"

    def can_ask(self, host: bytes, port: bytes | None) -> bool:
        return True

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
    protocol = "https_connect"

    def can_ask(self, host: bytes, port: bytes | None) -> bool:
        return True

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


class SocksDoor:
    """A SOCKS5 CONNECT to a domain, whatever its bytes, and when it is granted a GET inside the tunnel."""

    name = "socks"
    protocol = "socks5_tcp"

    def can_ask(self, host: bytes, port: bytes | None) -> bool:
        number = int(port) if port is not None and port.isascii() and port.isdigit() else None
        return len(host) < 256 and (port is None or (number is not None and number < 65536 and b"%d" % number == port))

    def host(self, host: bytes) -> bytes | IPAddress:
        """What is written into the request."""
        return host

    def ask(self, proxy: ProxyProcess, host: bytes, port: bytes, path: bytes = b"/t") -> Outcome:
        with SocksClient(proxy.socks) as client:
            reply = client.command(self.host(host), int(port))
            if reply.code == 0:
                answer = client.ask(b"GET %b HTTP/1.1\r\nHost: inner.test\r\n\r\n" % path)
                return Outcome(_word(answer, ""), answer)
            assert client.ended()
            return outcome_of_reply(proxy, client.address, reply)

    def check(self, outcome: Outcome) -> None:
        if outcome.word == FAILED:
            assert outcome.answer.status in FAILURES
        elif outcome.word != PASSED:
            assert outcome.answer.status == NOT_BY_RULESET


class SocksAddressDoor(SocksDoor):
    """The same with an address as such: four bytes, or sixteen."""

    name = "socks address"

    def can_ask(self, host: bytes, port: bytes | None) -> bool:
        return super().can_ask(host, port) and parse_literal(host) is not None

    def host(self, host: bytes) -> bytes | IPAddress:
        address = parse_literal(host)
        assert address is not None, host
        return address


NOT_BY_RULESET, FAILURES = 2, (3, 4, 5, 6)
"""SOCKS says only that something is not allowed, and whether network, host, port or time was in the way."""


def outcome_of_reply(proxy: ProxyProcess, client_address: str, reply: SocksReply) -> Outcome:
    """What the reply meant: the reason is in the audit log alone, and what is no host is not in there either."""
    answer = Response(reply.code, "", Head("", ()))
    if reply.code != NOT_BY_RULESET:
        return Outcome(FAILED if reply.code in FAILURES else f"reply {reply.code}", answer)
    events = proxy.settled_events(lambda event: event["client.address"] == client_address)
    if not events:
        return Outcome(REFUSED, answer)
    (event,) = (event for event in events if event["network.policy.decision"] != "allow")
    return Outcome(event["network.policy.reason"], answer, event["request.id"])


PLAIN: Door = PlainDoor()
CONNECT: Door = ConnectDoor()
SOCKS: Door = SocksDoor()
SOCKS_ADDRESS: Door = SocksAddressDoor()
BY_NAME: tuple[Door, ...] = (PLAIN, CONNECT, SOCKS)
"""The doors at which a name can be asked for."""
DOORS: tuple[Door, ...] = (*BY_NAME, SOCKS_ADDRESS)
