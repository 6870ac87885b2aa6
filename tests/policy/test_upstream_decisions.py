"""What is decided, looked up and dialled behind an upstream proxy (spec A6, B4.9)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    HttpUse,
    IPAddress,
    NetworkPolicyRequest,
    NetworkProtocol,
    Tunnel,
    Unresolved,
    Use,
    Verdict,
)
from codex_network_proxy.policy.engine import NetworkPolicy, World, decide
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.patterns import parse_pattern
from codex_network_proxy.policy.settings import NetworkSettings
from codex_network_proxy.policy.upstream import DIRECT, UpstreamRoutes, route_of

from .upstream_routes import nobody, on_3128, routes_of

# -- the decision ----------------------------------------------------------------------------------------------------

NAMES: Mapping[str, tuple[str, ...]] = {
    "public.test": ("93.184.216.34",),
    "private.test": ("10.0.0.1",),
    "metadata.test": ("169.254.169.254",),
    "loopback.test": ("127.0.0.1",),
    "empty.test": (),
}


@dataclass
class FakeResolver:
    asked: list[str] = field(default_factory=list)

    async def resolve(self, name: str, port: int) -> tuple[IPAddress, ...]:
        self.asked.append(name)
        if name not in NAMES:
            raise ResolutionFailed(f"could not resolve {name}")
        return tuple(ip_address(text) for text in NAMES[name])


def compile_policy(*denied: str, **settings: object) -> NetworkPolicy:
    allowed = ("*.test", "8.8.8.8", "10.0.0.0/8", "localhost")
    base = NetworkSettings(
        enabled=True,
        allowed=tuple(parse_pattern(text) for text in allowed),
        denied=tuple(parse_pattern(text) for text in denied),
    )
    return NetworkPolicy.compile(replace(base, **settings))  # type: ignore[arg-type]  # a row names real fields


def ask(
    policy: NetworkPolicy,
    target: str,
    use: Use | None = None,
    protocol: NetworkProtocol = NetworkProtocol.HTTPS_CONNECT,
    routes: UpstreamRoutes | None = None,
) -> tuple[Verdict, list[str]]:
    resolver = FakeResolver()
    known = routes_of(HTTPS_PROXY="tunnels.test:80", HTTP_PROXY="plain.test:80", NO_PROXY="past.test")
    world = World(resolver, lambda: "id", on_3128, routes=known if routes is None else routes)
    request = NetworkPolicyRequest(protocol, parse_endpoint(target), use or Tunnel(), "CONNECT")
    return asyncio.run(decide(policy, request, world)), resolver.asked


def said(verdict: Verdict) -> str:
    match verdict:
        case Allowed(upstream=None):
            return "direct"
        case Allowed():
            return f"through {verdict.upstream}"
        case Blocked():
            return verdict.reason
        case Unresolved():
            return "unresolved"
        case _:
            return "unavailable"


TUNNELS, PLAIN = "through http://tunnels.test:80", "through http://plain.test:80"
LOCAL = {"allow_local_binding": True}

# denied patterns, further settings, target, what was decided, what was looked up
DECISIONS = [
    pytest.param((), {}, "public.test:443", TUNNELS, ["public.test"], id="a public name is checked and passed on"),
    pytest.param((), {}, "private.test:443", "not_allowed_local", ["private.test"], id="a private answer blocks"),
    pytest.param((), {}, "metadata.test:443", "not_allowed_local", ["metadata.test"], id="a metadata answer blocks"),
    pytest.param((), {}, "unknown.test:443", TUNNELS, ["unknown.test"], id="a name unknown here is left to the proxy"),
    pytest.param((), {}, "empty.test:443", TUNNELS, ["empty.test"], id="a name without addresses is left to the proxy"),
    pytest.param((), {}, "past.test:443", "unresolved", ["past.test"], id="past the proxy it must resolve"),
    pytest.param((), {}, "8.8.8.8:443", TUNNELS, [], id="a public literal is judged and passed on"),
    pytest.param((), {}, "10.0.0.1:443", "direct", [], id="a private literal that is allowed goes directly"),
    pytest.param((), {}, "127.0.0.1:443", "not_allowed_local", [], id="a loopback literal is judged all the same"),
    pytest.param((), {}, "other.example:443", "not_allowed", [], id="a name that is not allowed is not looked up"),
    pytest.param(("public.test",), {}, "public.test:443", "denied", [], id="a denied name is not looked up"),
    pytest.param(("93.184.0.0/16",), {}, "public.test:443", "denied", ["public.test"], id="a denied answer blocks"),
    pytest.param((), LOCAL, "public.test:443", TUNNELS, [], id="no lookup when addresses do not matter"),
    pytest.param((), LOCAL, "private.test:443", TUNNELS, [], id="no lookup of a private name either"),
    pytest.param(("a.test",), LOCAL, "public.test:443", TUNNELS, [], id="denied names need no lookup"),
    pytest.param(("93.184.0.0/16",), LOCAL, "public.test:443", "denied", ["public.test"], id="denied ranges do"),
    pytest.param(("192.0.2.1",), LOCAL, "public.test:443", TUNNELS, ["public.test"], id="denied addresses do"),
    pytest.param((), LOCAL, "loopback.test:3128", "not_allowed_local", ["loopback.test"], id="a way back to ourselves"),
    pytest.param((), LOCAL, "public.test:3128", TUNNELS, ["public.test"], id="our port elsewhere"),
    pytest.param((), LOCAL, "8.8.8.8:443", TUNNELS, [], id="a literal needs no lookup anyway"),
    pytest.param((), {"allow_upstream_proxy": False}, "public.test:443", "direct", ["public.test"], id="switched off"),
    pytest.param((), {"allow_upstream_proxy": False} | LOCAL, "x.test:1", "unresolved", ["x.test"], id="off and local"),
]


@pytest.mark.parametrize(("denied", "settings", "target", "expected", "asked"), DECISIONS)
def test_the_decision_behind_an_upstream_proxy(
    denied: tuple[str, ...], settings: Mapping[str, object], target: str, expected: str, asked: list[str]
) -> None:
    verdict, looked_up = ask(compile_policy(*denied, **settings), target)
    assert (said(verdict), looked_up) == (expected, asked)
    if isinstance(verdict, Allowed) and verdict.upstream:
        assert verdict.looked_up == bool(asked or target == "8.8.8.8:443")


USES = [
    pytest.param(Tunnel(), NetworkProtocol.HTTPS_CONNECT, TUNNELS, id="CONNECT"),
    pytest.param(Tunnel(), NetworkProtocol.SOCKS5_TCP, TUNNELS, id="SOCKS5"),
    pytest.param(Tunnel(), NetworkProtocol.SOCKS5_UDP, "direct", id="datagrams never"),
    pytest.param(HttpUse("GET"), NetworkProtocol.HTTP, PLAIN, id="a plain request"),
    pytest.param(HttpUse("GET", upgrade="websocket"), NetworkProtocol.HTTP, PLAIN, id="a plain WebSocket"),
    pytest.param(HttpUse("GET", secure=True), NetworkProtocol.HTTP, TUNNELS, id="https in absolute form"),
    pytest.param(HttpUse("GET", secure=True), NetworkProtocol.HTTPS_CONNECT, TUNNELS, id="an intercepted request"),
]


@pytest.mark.parametrize(("use", "protocol", "expected"), USES)
def test_which_proxy_a_use_takes(use: Use, protocol: NetworkProtocol, expected: str) -> None:
    verdict, _ = ask(compile_policy(), "public.test:443", use, protocol)
    assert said(verdict) == expected


def test_without_routes_nothing_changes() -> None:
    verdict, asked = ask(compile_policy(), "public.test:443", routes=DIRECT)
    assert (said(verdict), asked) == ("direct", ["public.test"])
    request = NetworkPolicyRequest(NetworkProtocol.HTTP, parse_endpoint("public.test:80"))
    assert route_of(DIRECT, request, nobody) is None


def test_what_was_looked_up_is_kept_beside_the_proxy() -> None:
    verdict, _ = ask(compile_policy(), "public.test:443")
    assert isinstance(verdict, Allowed)
    assert verdict.addresses == (ip_address("93.184.216.34"),)
