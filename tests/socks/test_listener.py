from __future__ import annotations

import errno
import resource
import socket

import pytest

from codex_network_proxy.socks import listener as module
from codex_network_proxy.socks.listener import Listener, address_text, bind, raise_descriptor_limit

from .sockets import new_poller, run, settled, until
from .test_poller import Refusing


def test_accepted_sockets_are_ready_for_use() -> None:
    async def body() -> None:
        poller = new_poller()
        taken: list[tuple[socket.socket, str]] = []
        listener = Listener(poller, bind("127.0.0.1", 0), lambda sock, peer: taken.append((sock, peer)))
        clients = [socket.create_connection(listener.address) for _ in range(3)]
        await until(lambda: len(taken) == 3)
        for sock, _ in taken:
            assert not sock.getblocking()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert {peer for _, peer in taken} == {address_text(client.getsockname()) for client in clients}
        listener.close()
        poller.close()
        for sock in (*clients, *(sock for sock, _ in taken)):
            sock.close()

    run(body)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
    ],
)
def test_addresses_as_text(address: tuple[str, int], text: str) -> None:
    assert address_text(address) == text


def test_a_listener_that_cannot_be_watched_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        poller, sock = new_poller(), bind("127.0.0.1", 0)
        monkeypatch.setattr(poller, "_backend", Refusing())
        with pytest.raises(OSError, match="register"):
            Listener(poller, sock, lambda sock, peer: None)
        assert sock.fileno() == -1
        monkeypatch.undo()
        poller.close()

    run(body)


def test_ipv6_listeners() -> None:
    with bind("::1", 0) as sock:
        assert sock.getsockname()[0] == "::1"


def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port} is in use by another program") as refused:
            bind("127.0.0.1", port)
        assert refused.value.errno == errno.EADDRINUSE


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:0 is not an address of this machine"):
        bind("192.0.2.1", 0)


class Exhausted:
    """A listening socket in a process without free descriptors; counts how often it is asked."""

    def __init__(self, real: socket.socket, code: int) -> None:
        self.real, self.code, self.asked = real, code, 0

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        if self.code:
            raise OSError(self.code, "made up")
        return self.real.accept()

    def fileno(self) -> int:
        return self.real.fileno()

    def close(self) -> None:
        self.real.close()


def test_without_descriptors_accepting_pauses_and_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        monkeypatch.setattr(module, "OUT_OF_FILES_PAUSE", 0.01)
        poller = new_poller()
        sock = Exhausted(bind("127.0.0.1", 0), errno.EMFILE)
        taken: list[socket.socket] = []
        listener = Listener(poller, sock, lambda taken_sock, peer: taken.append(taken_sock))  # type: ignore[arg-type]  # fakes
        client = socket.create_connection(sock.real.getsockname())
        await until(lambda: sock.asked == 1)
        await settled()
        assert sock.asked == 1
        sock.code = 0
        await until(lambda: bool(taken))
        sock.code = errno.EMFILE
        another = socket.create_connection(sock.real.getsockname())
        await until(lambda: listener._pause is not None)
        listener.close()
        poller.close()
        for left in (client, another, *taken):
            left.close()

    run(body)


def test_a_client_that_gives_up_does_not_keep_the_next_one_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        poller = new_poller()
        sock = Exhausted(bind("127.0.0.1", 0), errno.ECONNABORTED)
        taken: list[socket.socket] = []
        listener = Listener(poller, sock, lambda taken_sock, peer: taken.append(taken_sock))  # type: ignore[arg-type]  # fakes
        client = socket.create_connection(sock.real.getsockname())
        await until(lambda: sock.asked > 0)
        sock.code = 0
        await until(lambda: bool(taken))
        listener.close()
        poller.close()
        client.close()
        taken[0].close()

    run(body)


@pytest.mark.parametrize(
    ("soft", "hard", "refused", "expected"),
    [
        pytest.param(1024, 4096, (), [4096], id="as far as the system grants"),
        pytest.param(4096, 4096, (), [], id="already there"),
        pytest.param(1024, 1 << 30, (), [1 << 20], id="no further than is useful"),
        pytest.param(256, resource.RLIM_INFINITY, (1 << 20,), [1 << 20, 65536], id="macOS grants less than it says"),
        pytest.param(resource.RLIM_INFINITY, resource.RLIM_INFINITY, (), [], id="no limit"),
    ],
)
def test_the_descriptor_limit_is_raised(
    soft: int, hard: int, refused: tuple[int, ...], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def set_limit(kind: int, limits: tuple[int, int]) -> None:
        asked.append(limits[0])
        if limits[0] in refused:
            raise ValueError("made up")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    raise_descriptor_limit()
    assert asked == expected
