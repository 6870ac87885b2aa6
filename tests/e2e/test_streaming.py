"""Bodies pass as they come, in both directions, and the proxy's memory does not grow with them."""

from __future__ import annotations

import threading

import pytest

from tests.kit.fleet import Fleet
from tests.kit.memory import GROWTH, Memory, needs_proc
from tests.kit.origins import CHUNK, Exchange, HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, connect, get

SIZE = 1 << 30


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


@pytest.fixture(params=["plain", "connect"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(proxy: ProxyProcess, origin: HttpOrigin, door: str, client: Client) -> str:
    """The prefix that a target needs on this door, once the client may send requests."""
    at = f"allowed.test:{origin.port}"
    if door == "plain":
        return f"http://{at}"
    assert client.ask(connect(at), "CONNECT").status == 200
    return ""


def head(method: str, target: str, origin: HttpOrigin, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: allowed.test:{origin.port}", *fields, "", ""]).encode()


def test_events_arrive_one_by_one(proxy: ProxyProcess, origin: HttpOrigin, door: str) -> None:
    with Client(proxy.http) as client:
        prefix = opened(proxy, origin, door, client)
        client.send(head("GET", f"{prefix}/sse", origin))
        for number in range(5):
            event = b"event-%d" % number
            origin.events.put(event)
            assert event in client.stream.until(event + b"\n\n"), "the next one is not sent before this one is here"
        origin.events.put(None)
        assert client.stream.until(b"0\r\n\r\n")


def test_an_upload_passes_piece_by_piece(proxy: ProxyProcess, origin: HttpOrigin, door: str) -> None:
    with Client(proxy.http) as client:
        mark = origin.recorder.mark()
        prefix = opened(proxy, origin, door, client)
        client.send(head("POST", f"{prefix}/echo", origin, "Transfer-Encoding: chunked"))
        for number in range(5):
            piece = b"piece-%d" % number
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            origin.recorder.wait_for(piece, mark)  # at the origin while the upload goes on
        client.send(b"0\r\n\r\n")
        assert client.read().json()["length"] == 5 * len(b"piece-0")


@needs_proc
def test_a_download_in_constant_memory(proxy: ProxyProcess, origin: HttpOrigin, door: str) -> None:
    with Client(proxy.http) as client, Memory(proxy) as memory:
        prefix = opened(proxy, origin, door, client)
        client.send(head("GET", f"{prefix}/big?n={SIZE}", origin))
        assert b"200 OK" in client.stream.until(b"\r\n\r\n")
        for _ in range(8):
            assert client.stream.skip(SIZE // 8) == SIZE // 8
            memory.look()
    assert memory.growth < GROWTH, f"{memory.growth >> 20} MiB more"


@needs_proc
def test_an_upload_in_constant_memory(proxy: ProxyProcess, origin: HttpOrigin, door: str) -> None:
    with Client(proxy.http, timeout=60) as client, Memory(proxy) as memory:
        prefix = opened(proxy, origin, door, client)
        client.send(head("POST", f"{prefix}/upload", origin, f"Content-Length: {SIZE}"))
        for number in range(SIZE // len(CHUNK)):
            client.send(CHUNK)
            if number % 512 == 0:
                memory.look()
        assert client.read().json() == {"received": SIZE}
        memory.look()
    assert memory.growth < GROWTH, f"{memory.growth >> 20} MiB more"


@needs_proc
def test_a_client_that_does_not_read_is_not_buffered_for(proxy: ProxyProcess, origin: HttpOrigin, door: str) -> None:
    sent = Sent()
    with HttpOrigin("flood", {"flood": sent.flood}) as flood, Client(proxy.http) as client, Memory(proxy) as memory:
        prefix = opened(proxy, flood, door, client)
        client.send(head("GET", f"{prefix}/flood", flood))
        client.stream.until(b"\r\n\r\n")
        assert sent.stalled.wait(10), "the origin is made to wait"
        memory.look()
    assert memory.growth < GROWTH, f"{memory.growth >> 20} MiB more"


class Sent:
    """Sends without end; `stalled` is set when the other side has stopped taking it."""

    def __init__(self) -> None:
        self.stalled = threading.Event()

    def flood(self, exchange: Exchange) -> None:
        exchange.start("200 OK", f"content-length: {1 << 40}")
        exchange.stream.sock.settimeout(1)
        try:
            while True:
                exchange.send(CHUNK)
        except TimeoutError:
            self.stalled.set()


def test_chunked_and_close_delimited_answers_are_whole(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    for path, body in (("chunked", b"one two three"), ("until-close", b"ends with the connection")):
        with Client(proxy.http) as client:
            assert client.ask(get(f"http://allowed.test:{origin.port}/{path}")).body == body
