"""Two thousand UDP associations come and go, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

from tests.kit.memory import needs_proc
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
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


def open_and_close(proxy: ProxyProcess, port: int) -> None:
    clients = [UdpClient(proxy.socks) for _ in range(AT_ONCE)]
    for client in clients:
        assert client.ask(b"allowed.test", port, b"x").payload == b"x"
    for client in clients:
        client.__exit__(None, None, None)
