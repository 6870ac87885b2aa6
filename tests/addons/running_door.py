"""A front door in a thread of its own, with an authority and an engine that do what the test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

from codex_network_proxy.addons.doorway import Doorway
from codex_network_proxy.addons.front_door import DoorLimits, FrontDoor
from codex_network_proxy.addons.handover import HandOver, TunnelReport
from codex_network_proxy.addons.own_listeners import OwnListeners
from codex_network_proxy.addons.upstreams import Upstreams
from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    BlockReason,
    Decision,
    DecisionSource,
    NetworkPolicyRequest,
    PolicyScope,
    Ruling,
    Unavailable,
    Unresolved,
    Verdict,
)
from codex_network_proxy.policy.upstream import UpstreamProxy
from tests.kit.raw import Client, connect
from tests.kit.tcp_origins import TcpOrigin

PATIENCE = 10.0
REQUEST_ID = "id-1"
Decide = Callable[[NetworkPolicyRequest], Awaitable[Verdict]]


def allowed(request: NetworkPolicyRequest, *, inspect: bool = False) -> Allowed:
    """Every name leads to the machine itself."""
    address = request.target.host.address or IPv4Address("127.0.0.1")
    ruling = Ruling(Decision.ALLOW, "allow", DecisionSource.BASELINE_POLICY, PolicyScope.DOMAIN)
    return Allowed(REQUEST_ID, request, (ruling,), (address,), inspect=inspect)


def blocked(
    request: NetworkPolicyRequest, reason: str = BlockReason.NOT_ALLOWED, source: DecisionSource | None = None
) -> Blocked:
    ruling = Ruling(Decision.DENY, reason, source or DecisionSource.BASELINE_POLICY, PolicyScope.DOMAIN)
    return Blocked(REQUEST_ID, request, (ruling,))


class FakeAuthority:
    """Decides by the host's name; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[NetworkPolicyRequest] = []
        self.upstream: UpstreamProxy | None = None
        self.left: list[str] = []
        self.denied: list[tuple[NetworkPolicyRequest, BlockReason]] = []
        self.failed: list[tuple[str, str]] = []
        self.serves_udp: bool | None = True
        self.own_relays = OwnListeners()
        self.waiting = threading.Event()
        self.answer: asyncio.Future[None] | None = None

    async def decide(self, request: NetworkPolicyRequest) -> Verdict:
        self.asked.append(request)
        match request.host:
            case "blocked.test":
                return blocked(request)
            case "disabled.test":
                return blocked(request, BlockReason.PROXY_DISABLED, DecisionSource.PROXY_STATE)
            case "unresolved.test":
                return Unresolved(REQUEST_ID, request, (), "no such name")
            case "unavailable.test":
                return Unavailable(REQUEST_ID, request)
            case "behind.test":
                return replace(allowed(request), upstream=self.upstream)
            case "raises.test":
                raise ValueError(f"a secret about {request.host}")
            case "inspected.test":
                return allowed(request, inspect=True)
            case "slow.test" | "slow-blocked.test":
                self.answer = asyncio.get_running_loop().create_future()
                self.waiting.set()
                await self.answer
        return blocked(request) if request.host == "slow-blocked.test" else allowed(request)

    def client_left(self, client_address: str) -> None:
        self.left.append(client_address)

    def unreached(self, allowed: Allowed, why: str) -> None:
        self.failed.append((allowed.request.host, why))

    def deny(self, request: NetworkPolicyRequest, reason: BlockReason) -> Blocked:
        self.denied.append((request, reason))
        return blocked(request, reason)


class FakeEngine:
    """Keeps what it is given. The test closes it, or `serve` does at once."""

    def __init__(self) -> None:
        self.taken: list[HandOver] = []
        self.given = threading.Semaphore(0)
        self.error: Exception | None = None

    def take(self, handover: HandOver) -> None:
        self.taken.append(handover)
        self.given.release()
        if self.error is not None:
            raise self.error

    def next(self) -> HandOver:
        assert self.given.acquire(timeout=PATIENCE), "nothing was handed over"
        return self.taken[-1]


class FakeObserver:
    def __init__(self) -> None:
        self.opened: list[TunnelReport] = []
        self.closed: list[TunnelReport] = []

    def tunnel_opened(self, report: TunnelReport) -> None:
        self.opened.append(report)

    def tunnel_closed(self, report: TunnelReport) -> None:
        self.closed.append(report)


class RunningDoor:
    """Use it as a context manager; `call` runs a function where the door lives."""

    def __init__(
        self,
        limits: DoorLimits | None = None,
        *,
        fast_path: bool = True,
        host: str = "127.0.0.1",
        upstreams: Upstreams | None = None,
    ) -> None:
        self.authority = FakeAuthority()
        self.engine = FakeEngine()
        self.observer = FakeObserver()
        self.log: list[str] = []
        self.address = self.socks = ""
        self._host = host
        self.door = FrontDoor(
            self.authority,
            self.engine,
            limits=limits,
            observer=self.observer,
            fast_path=fast_path,
            on_log=lambda level, text: self.log.append(text),
            upstreams=upstreams,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        host, port = self.call(lambda: self.door.start(self._host, 0))
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self

    def open_socks(self) -> str:
        """Starts a SOCKS5 listener as well, and returns its address."""
        host, port = self.call(lambda: self.door.start_socks(self._host, 0))
        self.socks = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self.socks

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.call(self.door.close)
        self.call(lambda: None)
        for handover in self.engine.taken:
            handover.sock.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def call[Result](self, function: Callable[[], Result]) -> Result:
        async def body() -> Result:
            return function()

        return asyncio.run_coroutine_threadsafe(body(), self._loop).result(PATIENCE)

    @property
    def doorway(self) -> Doorway:
        running = self.door._doorway
        assert running is not None
        return running

    def settle_decision(self, and_then: Callable[[], object] = lambda: None) -> None:
        """Lets the decision that waits go on. When it is made, `and_then` is called before anybody acts on it."""
        assert self.authority.waiting.wait(PATIENCE)
        self.authority.waiting.clear()
        answer = self.authority.answer
        assert answer is not None

        async def body() -> None:
            answer.set_result(None)
            await asyncio.sleep(0)
            and_then()

        asyncio.run_coroutine_threadsafe(body(), self._loop).result(PATIENCE)

    def wait_until(self, true: Callable[[], bool]) -> None:
        """Returns once `true()` holds in the door's thread."""

        async def body() -> None:
            while not true():  # noqa: ASYNC110 - what is waited for is the state of sockets
                await asyncio.sleep(0)

        future = asyncio.run_coroutine_threadsafe(body(), self._loop)
        try:
            future.result(PATIENCE)
        finally:
            future.cancel()

    def wait_until_empty(self) -> None:
        self.wait_until(lambda: self.door.taken == 0)


def at(origin: TcpOrigin, host: str = "allowed.test") -> str:
    return f"{host}:{origin.port}"


def connected(client: Client, origin: TcpOrigin, host: str = "allowed.test", early: bytes = b"") -> Client:
    """The client, whose CONNECT was granted; `early` is what it sent behind its head."""
    answer = client.ask(connect(at(origin, host)) + early, "CONNECT")
    assert (answer.status, answer.phrase, answer.head.fields) == (200, "Connection established", ())
    return client


def open_tunnel(door: RunningDoor, origin: TcpOrigin, host: str = "allowed.test") -> Client:
    return connected(Client(door.address), origin, host)


def still_open(client: Client) -> bool:
    client.send(b"x")
    return client.stream.exactly(1) == b"x"
