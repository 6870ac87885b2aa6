"""Flows, a session and a real authority in a made-up world, for the tests of single addons."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from mitmproxy import connection, http

from codex_network_proxy.addons.authority import Authority, Surroundings
from codex_network_proxy.addons.http1_messages import ExactRequest
from codex_network_proxy.addons.interception import TlsFiles
from codex_network_proxy.addons.local_sockets import LocalSockets
from codex_network_proxy.addons.sessions import Session, close_session, open_session
from codex_network_proxy.addons.upstreams import Upstreams
from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.decision import Allowed, IPAddress, NetworkPolicyRequest, NetworkProtocol, Tunnel
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import ResolutionFailed, SecretUnavailable
from codex_network_proxy.policy.hosts import parse_endpoint

from .engine_kit import SECRET, configuration

ADDRESS = ip_address("127.0.0.1")
Pairs = Sequence[tuple[str, str]]


@dataclass
class World:
    """Resolver, audit log, clock and secrets."""

    addresses: Sequence[IPAddress] | None = (ADDRESS,)
    events: list[PolicyDecisionEvent] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=lambda: {"TOKEN": SECRET})

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        if self.addresses is None:
            raise ResolutionFailed(f"could not resolve {name}")
        return self.addresses

    def emit(self, event: PolicyDecisionEvent) -> None:
        self.events.append(event)

    def now(self) -> float:
        return 1_700_000_000.0

    def environment(self, name: str) -> str:
        if name not in self.secrets:
            raise SecretUnavailable(f"missing required environment variable {name}")
        return self.secrets[name]

    def file(self, path: str) -> str:
        raise SecretUnavailable(f"no file {path}")

    def told(self) -> list[tuple[str, str]]:
        """Decision and reason of every event."""
        fields = (event.fields() for event in self.events)
        return [(str(one["network.policy.decision"]), str(one["network.policy.reason"])) for one in fields]


def compiled(text: str) -> NetworkPolicy:
    return NetworkPolicy.compile(load_config(text, file="config.toml").settings)


@dataclass
class FakeTenant:
    """A proxy that has what the test gives it."""

    authority: Authority
    secrets: World
    tls: TlsFiles = field(default_factory=lambda: TlsFiles(None, None))

    @property
    def upstreams(self) -> Upstreams:
        return Upstreams(self.secrets, self.authority.own_listeners, lambda: None)


@dataclass
class Bench:
    """One client connection, with a policy behind it."""

    world: World
    authority: Authority
    client: connection.Client
    session: Session
    tenant: FakeTenant

    def flow(
        self,
        url: str = "http://allowed.test/",
        fields: Pairs = (),
        method: str = "GET",
        *,
        version: str = "HTTP/1.1",
        authority: str = "",
        body: bool = False,
    ) -> http.HTTPFlow:
        """A flow as it is when its head has been read: `url` says where it goes, `fields` what it holds."""
        scheme, _, rest = url.partition("://")
        at, slash, path = rest.partition("/")
        target = parse_endpoint(at, {"http": 80, "https": 443}[scheme])
        flow = http.HTTPFlow(self.client, connection.Server(address=None), live=True)
        flow.request = ExactRequest(
            target.host.text,
            target.port,
            method.encode(),
            scheme.encode(),
            authority.encode(),
            (slash + path).encode("latin-1"),
            version.encode(),
            http.Headers([(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]),
            None,
            None,
            0.0,
            None,
        )
        if body:
            self.session.bodies.add(flow.id)
        return flow

    def enter(self, target: str = "hooked.test:443") -> Allowed:
        """From now on flows of this client come out of an intercepted tunnel."""
        endpoint = parse_endpoint(target)
        request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, endpoint, Tunnel(), "CONNECT", "127.0.0.1:5")
        verdict = asyncio.run(self.authority.decide(request))
        assert isinstance(verdict, Allowed), verdict
        self.session.tunnel = verdict
        self.client.timestamp_tls_setup = 1.0
        self.world.events.clear()
        return verdict


def run(hook: Any, flow: http.HTTPFlow) -> http.HTTPFlow:
    """Calls a hook the way the engine does."""

    async def call() -> None:
        result = hook(flow)
        if result is not None:
            await result

    asyncio.run(call())
    return flow


@contextmanager
def bench(text: str | None = None, world: World | None = None, sockets: LocalSockets | None = None) -> Iterator[Bench]:
    """A client connection that lasts as long as the block. With `sockets` the platform has unix sockets."""
    world = world or World()
    authority = Authority(compiled(text or configuration()), Surroundings(world, world, world, sockets=sockets))
    client = connection.Client(peername=("127.0.0.1", 5), sockname=("127.0.0.1", 3128), timestamp_start=0.0)
    tenant = FakeTenant(authority, world)
    session = Session(tenant, "127.0.0.1:5")
    open_session(client.id, session)
    try:
        yield Bench(world, authority, client, session, tenant)
    finally:
        close_session(client.id)


def answered(flow: http.HTTPFlow) -> tuple[int, str]:
    """Status and text of our own answer; 0 while there is none."""
    response = flow.response
    return (response.status_code, response.get_text() or "") if response else (0, "")


def lines(flow: http.HTTPFlow) -> list[tuple[str, str]]:
    """The request's fields, in order."""
    return [(name.decode(), value.decode()) for name, value in flow.request.headers.fields]
