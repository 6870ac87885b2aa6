"""Two thousand UDP associations come and go, and leave nothing behind; a flood of destinations leaves TCP its share."""

from __future__ import annotations

import resource
from contextlib import ExitStack
from pathlib import Path

from tests.kit.memory import needs_proc
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.socks_client import SocksClient
from tests.kit.tcp_origins import TcpOrigin, echo_bytes
from tests.kit.udp_client import UdpClient
from tests.kit.udp_origins import UdpOrigin

ASSOCIATIONS, AT_ONCE = 2000, 200
MEBIBYTE = 1 << 20


@needs_proc
def test_many_associations_leave_nothing_behind(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, OPEN) as proxy, UdpOrigin() as echoing:
        open_and_close(proxy, echoing.port)
        before = proxy.descriptors()
        memory = proxy.resident()
        for _ in range(ASSOCIATIONS // AT_ONCE):
            open_and_close(proxy, echoing.port)
        proxy.until(lambda: proxy.descriptors() <= before, "every descriptor closed")
        assert proxy.resident() - memory < 5 * MEBIBYTE


@needs_proc
def test_a_flood_of_destinations_does_not_use_up_the_descriptors(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, OPEN) as proxy, UdpOrigin() as udp, TcpOrigin(echo_bytes) as tcp, ExitStack() as opened:
        resource.prlimit(proxy.child.pid, resource.RLIMIT_NOFILE, (256, 256))
        clients = [opened.enter_context(UdpClient(proxy.socks)) for _ in range(2)]
        for number in range(120):
            for client in clients:
                assert client.ask(spelled(number), udp.port, b"x").payload == b"x"
        assert proxy.descriptors() <= 128
        for _ in range(40):
            assert opened.enter_context(SocksClient(proxy.socks)).command(b"allowed.test", tcp.port).code == 0


def spelled(number: int) -> bytes:
    """One name in so many spellings, each of which is a destination to the relay."""
    return bytes(byte - 32 if number >> place & 1 else byte for place, byte in enumerate(b"allowed")) + b".test"


def open_and_close(proxy: ProxyProcess, port: int) -> None:
    clients = [UdpClient(proxy.socks) for _ in range(AT_ONCE)]
    for client in clients:
        assert client.ask(b"allowed.test", port, b"x").payload == b"x"
    for client in clients:
        client.__exit__(None, None, None)
