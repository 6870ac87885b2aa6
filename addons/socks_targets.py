"""From an address as SOCKS carries it to the one canonical endpoint that the policy judges (spec A2.1)."""

from __future__ import annotations

from functools import lru_cache

from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.hosts import Endpoint, parse_host
from codex_network_proxy.socks.addressing import Target

REMEMBERED = 1024


@lru_cache(REMEMBERED)
def endpoint_of(target: Target) -> Endpoint:
    """The endpoint that a client means. Raises `InvalidHost`, also for port 0 and for names that are not ASCII.

    A domain whose text is an address is that address.
    """
    if target.port == 0:
        raise InvalidHost("port is not a number from 1 to 65535")
    host = target.host
    if not isinstance(host, bytes):
        return Endpoint(parse_host(str(host)), target.port)
    if not host.isascii():
        raise InvalidHost("host is not ASCII")
    return Endpoint(parse_host(host.decode("ascii")), target.port)
