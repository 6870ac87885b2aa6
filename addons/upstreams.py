"""The way through an upstream proxy: dialled, over TLS where it asks for it, with a tunnel to the target (spec A6)."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import certifi

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.policy.destinations import find_addresses
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.hosts import Endpoint
from codex_network_proxy.policy.interfaces import Resolver
from codex_network_proxy.policy.upstream import IsOwnListener, UpstreamProxy, UpstreamRoutes
from codex_network_proxy.socks.dialler import DialError, DialFailure, dial

from .door_reach import Outcome, Reached, Unreached
from .upstream_bridges import bridge, pair
from .upstream_connect import CLOSED, ConnectExchange, UpstreamFailed
from .upstream_forward import forwards
from .upstream_pipes import Pipe, PlainPipe, TlsPipe, client_context

logger = logging.getLogger("codex_network_proxy")

LIMIT = 10.0
"""Seconds from the lookup of an upstream proxy's name to the end of its answer."""

ITSELF = "the upstream proxy is this proxy itself"
NOT_RESOLVED = "the upstream proxy's name could not be resolved"
TOO_SLOW = "the upstream proxy did not answer in time"
NO_TLS = "the TLS handshake with the upstream proxy failed"


def log_routes(routes: UpstreamRoutes, warnings: Sequence[str], is_own_listener: IsOwnListener) -> None:
    """Says which upstream proxies are used, once it is known where this proxy itself listens."""
    for warning in warnings:
        logger.warning("%s", warning)
    for variable in routes.own(is_own_listener):
        logger.warning("ignoring %s: it is the address of this proxy itself", variable)
    for what, secure in (("HTTPS and other tunnels", True), ("plain HTTP", False)):
        if proxy := routes.first(secure=secure, is_own_listener=is_own_listener):
            logger.info("upstream proxy for %s: %s", what, proxy)


class Upstreams:
    """Opens connections through upstream proxies. One per proxy; use it inside a running event loop.

    `bundle` gives the file of the roots that `https://` proxies are verified against.
    """

    def __init__(
        self,
        resolver: Resolver,
        is_own_listener: IsOwnListener,
        bundle: Callable[[], Path | None],
        limit: float = LIMIT,
    ) -> None:
        self._resolver = resolver
        self._is_own_listener = is_own_listener
        self._bundle = bundle
        self._limit = limit
        self._trusted: tuple[tuple[Path, int], ssl.SSLContext] | None = None
        self._ways: set[UpstreamWay] = set()
        self._bridges: set[asyncio.Task[None]] = set()

    async def open(self, verdict: Allowed) -> Reached:
        """A socket that leads to the target, or for a request that is forwarded to the upstream proxy itself.

        Raises `UpstreamFailed`. A cancelled wait leaves no socket behind.
        """
        assert verdict.upstream
        try:
            async with asyncio.timeout(self._limit):
                return await self._open(verdict.upstream, None if forwards(verdict) else verdict.request.target)
        except TimeoutError:
            raise UpstreamFailed(TOO_SLOW, DialFailure.TIMED_OUT) from None

    def reach(self, verdict: Allowed, on_done: Callable[[Outcome], None]) -> UpstreamWay:
        """`open` for code that does not await: `on_done` is told the end of it, after this has returned."""
        way = UpstreamWay(asyncio.get_running_loop().create_task(self._reach(verdict)), on_done)
        self._ways.add(way)
        way.task.add_done_callback(lambda _: self._ways.discard(way))
        return way

    def close(self) -> None:
        """Ends everything that is under way or bridged."""
        for way in list(self._ways):
            way.cancel()
        for task in list(self._bridges):
            task.cancel()

    async def _reach(self, verdict: Allowed) -> Outcome:
        try:
            return await self.open(verdict)
        except UpstreamFailed as error:
            return Unreached(error.failure, str(error))
        except Exception as error:
            # The text of the error may hold what was sent: only its kind is logged.
            logger.error("an upstream proxy could not be used (%s)", type(error).__name__)
            return Unreached(DialFailure.OTHER, DialFailure.OTHER.value)

    async def _open(self, upstream: UpstreamProxy, target: Endpoint | None) -> Reached:
        pipe = await self._connect(upstream)
        try:
            early = await _ask(pipe, ConnectExchange(target, upstream.authorization)) if target else b""
        except BaseException:
            pipe.close()
            raise
        return Reached(pipe.sock if isinstance(pipe, PlainPipe) else self._bridged(pipe), early)

    async def _connect(self, upstream: UpstreamProxy) -> Pipe:
        sock = await self._dial(upstream.endpoint)
        if not upstream.secure:
            return PlainPipe(sock)
        try:
            pipe = TlsPipe(sock, self._context(), upstream.endpoint.host.text)
            await pipe.handshake()
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise UpstreamFailed(_tls_text(error)) from None
            raise
        return pipe

    def _context(self) -> ssl.SSLContext:
        bundle = self._bundle() or Path(certifi.where())
        version = bundle, bundle.stat().st_mtime_ns
        if self._trusted is None or self._trusted[0] != version:
            self._trusted = version, client_context(bundle)
        return self._trusted[1]

    async def _dial(self, endpoint: Endpoint) -> socket.socket:
        try:
            addresses = await find_addresses(endpoint, self._resolver)
        except ResolutionFailed:
            raise UpstreamFailed(NOT_RESOLVED, DialFailure.HOST_UNREACHABLE) from None
        if any(self._is_own_listener(address, endpoint.port) for address in addresses):
            raise UpstreamFailed(ITSELF)
        try:
            return await dial(addresses, endpoint.port, limit=self._limit)
        except DialError as error:
            raise UpstreamFailed(f"the upstream proxy could not be reached ({error})", error.failure) from None

    def _bridged(self, pipe: TlsPipe) -> socket.socket:
        outer, inner = pair()
        # At once, so that a bridge that is cut right away closes what it owns.
        task = asyncio.Task(bridge(pipe, outer, inner), loop=asyncio.get_running_loop(), eager_start=True)
        self._bridges.add(task)
        task.add_done_callback(self._bridges.discard)
        return outer


class UpstreamWay:
    """An attempt under way; see `door_reach.Way`."""

    def __init__(self, task: asyncio.Task[Outcome], on_done: Callable[[Outcome], None]) -> None:
        self.task = task
        self._on_done: Callable[[Outcome], None] | None = on_done
        task.add_done_callback(self._finished)

    def cancel(self) -> None:
        self._on_done = None
        self.task.cancel()

    def _finished(self, task: asyncio.Task[Outcome]) -> None:
        on_done, self._on_done = self._on_done, None
        outcome = None if task.cancelled() else task.result()
        if outcome is not None and on_done is not None:
            on_done(outcome)
        elif isinstance(outcome, Reached):  # it was just too late to stop it
            outcome.sock.close()


async def _ask(pipe: Pipe, exchange: ConnectExchange) -> bytes:
    """Has the tunnel opened; what the target has sent already. Raises `UpstreamFailed`."""
    try:
        await pipe.send(exchange.request)
        while True:
            early = exchange.receive(await pipe.receive(exchange.room))
            if early is not None:
                return early
    except OSError:
        raise UpstreamFailed(CLOSED, DialFailure.REFUSED) from None


def _tls_text(error: OSError) -> str:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return NO_TLS
    # What comes behind the comma names the proxy.
    reason = error.verify_message.partition(",")[0].lower()
    return f"the upstream proxy's certificate is not trusted ({reason})"
