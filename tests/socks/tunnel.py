"""A relay between two loopback connections."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from codex_network_proxy.socks.poller import Poller
from codex_network_proxy.socks.relay import Relay

from .sockets import new_poller, run, tcp_pair


class Tunnel:
    """A relay between two connections; the test holds the outer ends."""

    def __init__(self, buffer: int | None = None) -> None:
        self.errors: list[Exception] = []
        self.poller: Poller = new_poller(self.errors)
        self.client, inner_client = tcp_pair(buffer)
        self.origin, inner_origin = tcp_pair(buffer)
        self.inner = (inner_client, inner_origin)
        self.closed: list[Relay] = []
        self.relay = Relay(self.poller, inner_client, inner_origin, self.closed.append)

    async def __aenter__(self) -> Tunnel:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.relay.close()
        self.poller.close()
        self.client.close()
        self.origin.close()
        assert not self.errors
        assert self.closed == [self.relay]
        assert [sock.fileno() for sock in self.inner] == [-1, -1]


Scenario = Callable[[], Coroutine[None, None, None]]


def scenario(body: Scenario) -> Callable[[], None]:
    """Lets pytest call an async test body."""

    def test() -> None:
        run(body)

    test.__name__ = body.__name__
    return test
