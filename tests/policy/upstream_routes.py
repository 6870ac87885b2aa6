"""The routes that an environment means."""

from __future__ import annotations

from codex_network_proxy.policy.decision import IPAddress
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.upstream import UpstreamRoutes, read_routes


def nobody(address: IPAddress, port: int) -> bool:
    return False


def on_3128(address: IPAddress, port: int) -> bool:
    """This proxy, as bound on every address of the loopback interface."""
    return address.is_loopback and port == 3128


def routes_of(**environ: str) -> UpstreamRoutes:
    routes, warnings = read_routes(environ)
    assert warnings == ()
    return routes


def chosen(routes: UpstreamRoutes, target: str = "example.com:443", *, secure: bool = True) -> str | None:
    proxy = routes.choose(parse_endpoint(target), secure=secure, is_own_listener=nobody)
    return None if proxy is None else str(proxy)
