"""The ways into an intercepted tunnel: HTTP/1.1 and HTTP/2 inside TLS that ends at the proxy."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from .answers import BLOCKS, check_refusal, check_text_block, reason_of_text
from .doors import FAILED, PASSED, REFUSED, SOCKS, Outcome, outcome_of_reply
from .h2_client import Http2Client, StreamCut
from .proxy import ProxyProcess
from .raw import Client
from .socks_client import SocksClient
from .wire import Ended, Head, Response

CUT = "cut"
HTTP1, HTTP2 = ("http/1.1",), ("h2",)
Pairs = tuple[tuple[bytes, bytes], ...]


Opener = Callable[[ProxyProcess, bytes | str], Client]
"""Makes a tunnel to an authority. Raises `Refused`."""


class Refused(Exception):
    """The tunnel itself was refused; `outcome` says how."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(str(outcome))
        self.outcome = outcome

    @property
    def answer(self) -> Response:
        return self.outcome.answer


@dataclass(frozen=True, slots=True)
class Inner:
    """A request inside the tunnel, as the very bytes. Without `authority` it names the tunnel's own target."""

    method: bytes = b"GET"
    path: bytes = b"/echo"
    fields: Pairs = ()
    body: bytes = b""
    authority: bytes | None = None


@lru_cache(maxsize=64)
def trusting(ca: Path, alpn: tuple[str, ...] = HTTP1) -> ssl.SSLContext:
    """A client's context that trusts the proxy's authority alone."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(list(alpn))
    return context


def open_tunnel(proxy: ProxyProcess, authority: bytes | str) -> Client:
    """A connection on which CONNECT was granted. Raises `Refused`."""
    target = authority.encode() if isinstance(authority, str) else authority
    client = Client(proxy.http)
    answer = client.ask(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, target), "CONNECT")
    if answer.status != 200:
        client.sock.close()
        raise Refused(outcome_of(answer))
    return client


def open_by_socks(proxy: ProxyProcess, authority: bytes | str) -> Client:
    """The same by SOCKS5, with the host as a domain."""
    host, _, port = (authority.encode() if isinstance(authority, str) else authority).rpartition(b":")
    client = SocksClient(proxy.socks)
    reply = client.command(host, int(port))
    if reply.code == 0:
        return client
    with client:
        raise Refused(outcome_of_reply(proxy, client.address, reply))


def enter(
    proxy: ProxyProcess,
    authority: bytes | str,
    alpn: tuple[str, ...] = HTTP1,
    name: str | None = None,
    opener: Opener = open_tunnel,
) -> Client:
    """A tunnel with TLS that ends at the proxy. The certificate must be for `name`, by default the target's host."""
    target = authority.encode() if isinstance(authority, str) else authority
    client = opener(proxy, target)
    try:
        client.start_tls(trusting(proxy.ca, alpn), name or canonical(target.rpartition(b":")[0]))
    except BaseException:
        client.sock.close()
        raise
    return client


def enter_h2(proxy: ProxyProcess, authority: bytes | str, opener: Opener = open_tunnel) -> Http2Client:
    return Http2Client(enter(proxy, authority, HTTP2, opener=opener))


def canonical(host: bytes) -> str:
    """The host as a client would check it: an address in its usual form, or a name without a final dot."""
    text = host.decode().strip("[]").rstrip(".").lower()
    try:
        address = ip_address(text)
    except ValueError:
        try:
            return socket.inet_ntoa(socket.inet_aton(text))
        except OSError:
            return text
    return str((isinstance(address, IPv6Address) and address.ipv4_mapped) or address)


@dataclass(frozen=True, slots=True)
class InnerDoor:
    """HTTP/1.1 inside an intercepted tunnel."""

    name: str = "inner h1"
    opener: Opener = open_tunnel

    def ask(self, proxy: ProxyProcess, host: bytes, port: bytes, path: bytes = b"/t") -> Outcome:
        return self.send(proxy, host + (b":" + port if port else b""), Inner(path=path))

    def send(self, proxy: ProxyProcess, target: bytes, inner: Inner) -> Outcome:
        """Opens a tunnel to `target` and asks for `inner` in it."""
        try:
            return outcome_of(self._exchange(proxy, target, inner))
        except Refused as refused:
            return refused.outcome
        except (StreamCut, Ended, ConnectionError, ssl.SSLError):
            return Outcome(CUT, Response(0, "", Head("", ())))

    def _exchange(self, proxy: ProxyProcess, target: bytes, inner: Inner) -> Response:
        with enter(proxy, target, opener=self.opener) as client:
            return client.ask(http1_bytes(target, inner), inner.method.decode("latin-1"))

    def check(self, outcome: Outcome) -> None:
        """The whole form of the answer, beyond its meaning."""
        answer = outcome.answer
        if answer.status < 100 and outcome.word != CUT:
            SOCKS.check(outcome)
        elif answer.status == 403:
            code, sentence = BLOCKS[outcome.word]
            # HTTP/2 has no phrase, and the answer to HEAD no body.
            whole = replace(
                answer,
                phrase=answer.phrase or f"Blocked by network policy ({code})",
                body=answer.body or sentence.encode(),
            )
            check_text_block(whole, outcome.word)
        elif outcome.word not in (PASSED, CUT) and answer.status != 101:
            check_refusal(answer, answer.status)


@dataclass(frozen=True, slots=True)
class InnerHttp2Door(InnerDoor):
    """HTTP/2 inside an intercepted tunnel."""

    name: str = "inner h2"

    def _exchange(self, proxy: ProxyProcess, target: bytes, inner: Inner) -> Response:
        with enter(proxy, target, HTTP2, opener=self.opener) as client:
            return Http2Client(client).ask(http2_fields(target, inner), inner.body)


def http1_bytes(target: bytes, inner: Inner) -> bytes:
    fields = ((b"Host", target if inner.authority is None else inner.authority), *inner.fields)
    if inner.body:
        fields = (*fields, (b"Content-Length", b"%d" % len(inner.body)))
    lines = [b"%b %b HTTP/1.1" % (inner.method, inner.path), *(b"%b: %b" % pair for pair in fields), b"", b""]
    return b"\r\n".join(lines) + inner.body


def http2_fields(target: bytes, inner: Inner) -> Pairs:
    authority = target if inner.authority is None else inner.authority
    pseudo = ((b":method", inner.method), (b":scheme", b"https"), (b":authority", authority), (b":path", inner.path))
    return (*pseudo, *((name.lower(), value) for name, value in inner.fields))


def outcome_of(answer: Response) -> Outcome:
    """`passed`, `refused`, `failed`, the reason of a block, or any other status as text."""
    if answer.status == 403 and not answer.body:  # the answer to HEAD
        code = answer.get("x-proxy-error")
        return Outcome(next(reason for reason, (known, _) in BLOCKS.items() if known == code), answer)
    if answer.status == 403:
        return Outcome(reason_of_text(answer), answer)
    words = {200: PASSED, 400: REFUSED, 502: FAILED}
    return Outcome(words.get(answer.status, str(answer.status)), answer)


INNER = InnerDoor()
INNER_H2 = InnerHttp2Door()
INNER_DOORS: tuple[InnerDoor, ...] = (INNER, INNER_H2)


def by_socks(door: InnerDoor) -> InnerDoor:
    """The same door, in a tunnel that SOCKS5 has made."""
    return replace(door, name=f"{door.name} by socks", opener=open_by_socks)


EVERY_INNER_DOOR = (*INNER_DOORS, *map(by_socks, INNER_DOORS))
OPENERS: dict[str, Opener] = {"connect": open_tunnel, "socks": open_by_socks}
