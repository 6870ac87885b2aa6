"""The kernel watches no more sockets: nobody is left waiting for that, and nothing stays open."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
from collections.abc import Callable
from typing import Any

import pytest

from codex_network_proxy.policy.decision import Allowed, NetworkPolicyRequest
from codex_network_proxy.socks.udp import UdpLimits
from tests.kit.leaks import holdings
from tests.kit.raw import TIMEOUT, Client, connect
from tests.kit.socks_client import ASSOCIATE, GREETING, address_bytes, socks_request
from tests.kit.tcp_origins import TcpOrigin, echo_bytes
from tests.kit.udp_client import ZEROS
from tests.kit.udp_origins import UdpOrigin
from tests.kit.wire import Ended
from tests.socks.sockets import answer_later

from .running_door import allowed
from .udp_door import UdpDoor

LOOPBACK = "127.0.0.1"


class FullBackend:
    """A poller's backend on which one call fails, `left` calls from now."""

    def __init__(self, backend: Any, left: int) -> None:
        self._backend = backend
        self._left = left
        self.failed = False

    def register(self, fd: int, mask: int) -> None:
        self._count()
        self._backend.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        self._count()
        self._backend.modify(fd, mask)

    def _count(self) -> None:
        self._left -= 1
        if self._left == -1:
            self.failed = True
            raise OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def http(door: UdpDoor, port: int) -> None:
    with Client(door.address) as client:
        client.send(connect(f"allowed.test:{port}"))
        read_and_end(client)


def socks(door: UdpDoor, port: int) -> None:
    with Client(door.socks) as client:
        client.send(GREETING + socks_request(b"allowed.test", port))
        read_and_end(client)


def udp(door: UdpDoor, port: int) -> None:
    with Client(door.socks) as client:
        client.send(GREETING + socks_request(ZEROS, 0, ASSOCIATE))
        with contextlib.suppress(Ended, ConnectionError), socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.connect((LOOPBACK, int.from_bytes(client.stream.exactly(12)[-2:])))
            ask(sock, b"\0\0\0" + address_bytes(b"allowed.test", port) + b"x")
        read_and_end(client)


def read_and_end(client: Client) -> None:
    """Takes whatever answer there is, and waits for the end."""
    with contextlib.suppress(OSError):
        client.finish()
    with contextlib.suppress(ConnectionError):
        client.stream.rest()


def ask(sock: socket.socket, datagram: bytes) -> None:
    """A datagram may get lost, but not each time."""
    sock.settimeout(0.05)
    for _ in range(int(TIMEOUT / 0.05)):
        sock.send(datagram)
        with contextlib.suppress(TimeoutError):
            assert sock.recv(100).endswith(b"x")
            return
    raise AssertionError("no answer")


async def decide_later(request: NetworkPolicyRequest) -> Allowed:
    for _ in range(3):
        await asyncio.sleep(0)
    return allowed(request)


@pytest.mark.parametrize("late", [False, True], ids=["decided at once", "decided later"])
@pytest.mark.parametrize(
    ("use", "calls"),
    [
        pytest.param(http, 3, id="a tunnel over HTTP"),
        pytest.param(socks, 3, id="a tunnel over SOCKS5"),
        pytest.param(udp, 3, id="datagrams"),
    ],
)
def test_whatever_cannot_be_watched_ends(
    use: Callable[[UdpDoor, int], None], calls: int, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_later(monkeypatch)
    with UdpDoor(UdpLimits(retry_seconds=0.01)) as door, TcpOrigin(echo_bytes) as tcp, UdpOrigin() as echoing:
        if late:
            monkeypatch.setattr(door.authority, "decide", decide_later)
        poller = door.doorway.poller
        whole = poller._backend
        for left in itertools.count():
            before = door.call(holdings)
            poller._backend = full = FullBackend(whole, left)
            use(door, echoing.port if use is udp else tcp.port)
            door.wait_until_empty()
            door.wait_until(lambda before=before: not holdings().beyond(before))  # type: ignore[misc]
            counts = (door.doorway.deciding, door.doorway.dialling, door.doorway.connections, door.doorway.tunnels)
            assert [len(each) for each in counts] == [0, 0, 0, 0]
            assert door.open_associations == 0
            if not full.failed:
                break
        assert left >= calls
