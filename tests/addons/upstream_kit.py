"""Upstream proxies in the test's own event loop, that do as the test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from codex_network_proxy.addons.upstreams import LIMIT, Upstreams
from codex_network_proxy.policy.decision import (
    Allowed,
    Decision,
    DecisionSource,
    HttpUse,
    IPAddress,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
    Tunnel,
    Use,
)
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.hosts import Endpoint, parse_endpoint, parse_host
from codex_network_proxy.policy.upstream import UpstreamProxy

PROXY = "proxy.test"
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
Talk = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection at the upstream proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def asked(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()


class FakeUpstream:
    """Listens on a loopback port and talks to each client as `talk` says; `heads` is what it was asked."""

    def __init__(self, talk: Talk, tls: ssl.SSLContext | None = None) -> None:
        self.heads: list[bytes] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._talk = talk
        self._tls = tls

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.append(task)
        try:
            await self._talk(Recorded(reader, writer, self.heads))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            writer.close()

    def proxy(self, name: str = PROXY, authorization: str | None = None) -> UpstreamProxy:
        return UpstreamProxy(Endpoint(parse_host(name), self.port), self._tls is not None, authorization)

    async def gone(self) -> None:
        """Returns when the first client's connection has ended on this side as well."""
        await asyncio.wait(self.tasks[:1])


class Recorded(Peer):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heads: list[bytes]) -> None:
        super().__init__(reader, writer)
        self._heads = heads

    async def asked(self) -> bytes:
        self._heads.append(await super().asked())
        return self._heads[-1]


class FakeResolver:
    """Knows the proxy alone."""

    def __init__(self, addresses: Sequence[str] = ("127.0.0.1",)) -> None:
        self.asked: list[str] = []
        self._addresses = tuple(ip_address(text) for text in addresses)

    async def resolve(self, name: str, port: int) -> tuple[IPAddress, ...]:
        self.asked.append(name)
        if name != PROXY:
            raise ResolutionFailed(f"could not resolve {name}")
        return self._addresses


def upstreams(
    resolver: FakeResolver | None = None, bundle: Path | None = None, *, own: int = 0, limit: float = LIMIT
) -> Upstreams:
    """`own`: a port of our own."""
    return Upstreams(resolver or FakeResolver(), lambda _, port: port == own, lambda: bundle, limit)


def through(proxy: UpstreamProxy, target: str = "example.test:443", use: Use | None = None) -> Allowed:
    protocol = NetworkProtocol.HTTP if isinstance(use, HttpUse) else NetworkProtocol.HTTPS_CONNECT
    request = NetworkPolicyRequest(protocol, parse_endpoint(target), use or Tunnel(), "CONNECT", "127.0.0.1:5000")
    ruling = Ruling(Decision.ALLOW, "allow", DecisionSource.BASELINE_POLICY, PolicyScope.DOMAIN)
    return Allowed("id-1", request, (ruling,), (), upstream=proxy)


CANARY = "Basic canary"
ways = pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])


async def echo(peer: Peer) -> None:
    await peer.asked()
    await peer.say(OK)
    while data := await peer.reader.read(1 << 16):
        await peer.say(data)


async def refuses(peer: Peer) -> None:
    await peer.say(b"HTTP/1.1 403 No\r\n\r\n")
