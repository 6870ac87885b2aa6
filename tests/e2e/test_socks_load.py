"""What clients of tunnels cost: ten thousand come and go, and one sends before anybody listens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.memory import Memory, needs_proc
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, connect
from tests.kit.socks_client import GRANTED, GREETING, socks_request
from tests.kit.tcp_origins import TcpOrigin, echo_bytes
from tests.kit.world import World

CLIENTS, AT_ONCE = 10_000, 100


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[ProxyProcess]:
    with ProxyProcess(tmp_path, OPEN) as running:
        yield running


def come_and_go(proxy: ProxyProcess, hosts: list[bytes], port: int) -> list[int]:
    """One client for each host, all of them at once; the codes of their replies."""
    clients = [Client(proxy.socks) for _ in hosts]
    for client, host in zip(clients, hosts, strict=True):
        client.send(GREETING + socks_request(host, port))
    codes = [client.stream.exactly(12)[3] for client in clients]
    for client, code in zip(clients, codes, strict=True):
        if code == 0:
            client.send(b"x")
            assert client.stream.exactly(1) == b"x"
    for client in clients:
        client.sock.close()
    return codes


@needs_proc
def test_descriptors_and_memory_come_back(proxy: ProxyProcess) -> None:
    hosts = [b"allowed.test", b"a.sub.test", b"evil.test", b"b.sub.test"] * (AT_ONCE // 4)
    with TcpOrigin(echo_bytes) as server:
        for _ in range(10):
            come_and_go(proxy, hosts, server.port)
        before = proxy.descriptors(), proxy.resident()
        for _ in range(CLIENTS // AT_ONCE):
            assert come_and_go(proxy, hosts, server.port) == [0, 0, 2, 0] * (AT_ONCE // 4)
    proxy.until(lambda: proxy.descriptors() <= before[0], "every descriptor closed")
    assert proxy.resident() - before[1] < 8 << 20


@needs_proc
@pytest.mark.parametrize("door", ["connect", "socks"])
def test_what_a_client_sends_before_the_decision_is_not_piled_up(door: str, tmp_path: Path) -> None:
    world = World(tmp_path / "world", {"allowed.test": ["hang"]})
    with ProxyProcess(tmp_path, replace(OPEN, pins=()), world=world) as proxy, Memory(proxy) as memory:
        head = GREETING + socks_request(b"allowed.test", 443) if door == "socks" else connect("allowed.test:443")
        with Client(proxy.socks if door == "socks" else proxy.http, timeout=0.5) as client:
            with pytest.raises(TimeoutError):  # nobody takes it any more
                client.send(head + bytes(64 << 20))
            memory.look()
            client.sock.settimeout(10)
            answer = client.stream.some()
        assert answer.startswith(GRANTED if door == "socks" else b"HTTP/1.1 502 ")
    assert memory.growth < 8 << 20
