"""What is measured: each scenario is one way in which a client uses a proxy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Way(StrEnum):
    """How a request gets to the proxy."""

    TUNNEL = "tunnel"  # CONNECT, then the request inside
    SOCKS = "socks"  # SOCKS5, then the request inside
    FORWARD = "forward"  # the whole address in the request line


class Speech(StrEnum):
    """What is spoken inside."""

    PLAIN = "plain"
    TLS = "tls"
    TLS_H2 = "tls-h2"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load. An operation is an answered request, or a megabyte in a `bulk` scenario."""

    name: str
    title: str
    connections: int
    way: Way = Way.TUNNEL
    speech: Speech = Speech.PLAIN
    streams: int = 1  # requests at one time on a connection
    fresh: bool = False  # a connection for each request
    denied: bool = False  # the target is one that the policy refuses
    bulk: bool = False

    @property
    def intercepted(self) -> bool:
        """The proxy has to read what is inside TLS."""
        return self.speech is not Speech.PLAIN


SCENARIOS = (
    Scenario("tunnels", "new CONNECT tunnels, one request in each", 32, fresh=True),
    Scenario("socks", "new SOCKS5 tunnels, one request in each", 32, way=Way.SOCKS, fresh=True),
    Scenario("requests", "requests in 32 open tunnels", 32),
    Scenario("turns", "requests in one open tunnel, one at a time", 1),
    Scenario("bulk", "bytes through one tunnel", 1, bulk=True),
    Scenario("denied", "CONNECT that is refused", 32, fresh=True, denied=True),
    Scenario("plain", "plain HTTP, 32 kept connections", 32, way=Way.FORWARD),
    Scenario("intercepted", "intercepted HTTPS, 16 kept connections", 16, speech=Speech.TLS),
    Scenario(
        "intercepted-h2", "intercepted HTTP/2, 4 connections with 10 streams", 4, speech=Speech.TLS_H2, streams=10
    ),
    Scenario("handshakes", "new intercepted connections, one request in each", 16, speech=Speech.TLS, fresh=True),
)

TUNNELLED_NAME = "127.0.0.1"
"""The origin as an allowed address: what a proxy does for a name differs too much between them to be compared."""

INTERCEPTED_NAME = "localhost"
"""The origin under the name whose HTTPS is read."""

DENIED_NAME = "denied.bench.invalid"
