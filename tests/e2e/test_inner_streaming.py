"""Bodies pass as they come where HTTPS is read, whatever their size, and the proxy's memory does not grow with them."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

import pytest

from tests.kit.fleet import Fleet
from tests.kit.h2_client import Http2Client, StreamCut
from tests.kit.h2_client import get as h2_get
from tests.kit.h2_origin import Http2Origin
from tests.kit.hooks import API, CANARY, Hook, Inject, inspecting
from tests.kit.inner import HTTP2, Inner, enter, enter_h2, http1_bytes
from tests.kit.memory import needs_proc
from tests.kit.origins import CHUNK, Exchange, HttpOrigin
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client
from tests.kit.secure_clients import curl
from tests.kit.tls import TestAuthority

SIZE = 100 << 20
GROWTH = 32 << 20
POLICY = inspecting(Hook(API, inject=(Inject(),)))
PROTOCOLS = pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])


@pytest.fixture
def proxy(inspected: Fleet) -> ProxyProcess:
    return inspected.get(POLICY)


@pytest.fixture
def target(tls_origin: HttpOrigin) -> str:
    return f"{API}:{tls_origin.port}"


class Peak:
    """How much the memory of the process grew at most; Linux keeps the peak itself."""

    def __init__(self, proxy: ProxyProcess) -> None:
        self.folders = [Path(f"/proc/{pid}") for pid in proxy.family()]
        for folder in self.folders:
            (folder / "clear_refs").write_text("5")
        self.before = self._total()

    def _total(self) -> int:
        lines = [line for folder in self.folders for line in (folder / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

    def check(self) -> None:
        growth = self._total() - self.before
        assert growth < GROWTH, f"{growth >> 20} MiB more"


@needs_proc
@PROTOCOLS
def test_a_download_in_constant_memory(protocol: str, proxy: ProxyProcess, target: str, tmp_path: Path) -> None:
    peak = Peak(proxy)
    done = curl(
        proxy, tmp_path, protocol, "-o", "/dev/null", "-w", "%{size_download}", f"https://{target}/big?n={SIZE}"
    )
    assert done.out == str(SIZE), done
    peak.check()


@needs_proc
@PROTOCOLS
def test_an_upload_in_constant_memory(protocol: str, proxy: ProxyProcess, target: str, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as large:
        large.truncate(SIZE)
    peak = Peak(proxy)
    done = curl(proxy, tmp_path, protocol, "-X", "POST", "-T", "large", f"https://{target}/upload")
    assert done.out == json.dumps({"received": SIZE}), done
    peak.check()


class Flood:
    """An origin's handler that sends without end; `stalled` is set when nobody takes it any more."""

    def __init__(self) -> None:
        self.stalled = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        exchange.start("200 OK", f"content-length: {1 << 40}")
        exchange.stream.sock.settimeout(0.5)
        try:
            while True:
                exchange.send(CHUNK)
        except TimeoutError:
            self.stalled.set()


@needs_proc
@pytest.mark.parametrize("alpn", [("http/1.1",), ("h2",)], ids=["HTTP/1.1", "HTTP/2"])
def test_a_client_that_does_not_read_is_not_buffered_for(
    alpn: tuple[str, ...], proxy: ProxyProcess, authority: TestAuthority
) -> None:
    flood = Flood()
    with HttpOrigin("flood", {"flood": flood}, tls=authority.server_context(API)) as server:
        target = f"{API}:{server.port}"
        with enter(proxy, target, alpn) as client:
            peak = Peak(proxy)
            if alpn == HTTP2:
                Http2Client(client).start(h2_get(target, "/flood"))
            else:
                client.send(http1_bytes(target.encode(), Inner(path=b"/flood")))
            assert flood.stalled.wait(10), "the origin is made to wait"
            peak.check()


def hold(exchange: Exchange) -> None:
    """An origin's handler that reads no body."""
    exchange.origin.release.wait(20)


@needs_proc
@pytest.mark.parametrize("alpn", [("http/1.1",), ("h2",)], ids=["HTTP/1.1", "HTTP/2"])
def test_an_origin_that_does_not_read_is_not_buffered_for(
    alpn: tuple[str, ...], proxy: ProxyProcess, authority: TestAuthority
) -> None:
    with HttpOrigin("hold", {"hold": hold}, tls=authority.server_context(API)) as server:
        target = f"{API}:{server.port}"
        with enter(proxy, target, alpn) as client:
            peak = Peak(proxy)
            client.sock.settimeout(0.5)
            assert is_made_to_wait(client, target, http2=alpn == HTTP2)
            peak.check()
        server.release.set()


def is_made_to_wait(client: Client, target: str, http2: bool) -> bool:
    """Whether the proxy takes less than all of an upload that nobody reads."""
    length = (b"content-length", b"%d" % (1 << 40))
    try:
        if http2:
            streams = Http2Client(client)
            number = streams.start((*h2_get(target, "/hold", method="POST"), length), end=False)
            streams.send_body(number, bytes(SIZE), end=False)
        else:
            client.send(b"POST /hold HTTP/1.1\r\nHost: %b\r\n%b: %b\r\n\r\n" % (target.encode(), *length))
            client.send(bytes(SIZE), step=len(CHUNK))
    except TimeoutError:
        return True
    return False


def test_events_arrive_one_by_one(proxy: ProxyProcess, target: str, tls_origin: HttpOrigin) -> None:
    with enter(proxy, target) as client:
        client.send(http1_bytes(target.encode(), Inner(path=b"/sse")))
        for number in range(5):
            event = b"event-%d" % number
            tls_origin.events.put(event)
            assert event in client.stream.until(event + b"\n\n"), "the next one is not sent before this one is here"
        tls_origin.events.put(None)
        assert client.stream.until(b"0\r\n\r\n")


def test_events_arrive_one_by_one_over_http2(proxy: ProxyProcess, target: str, tls_origin: HttpOrigin) -> None:
    streams = enter_h2(proxy, target)
    with streams.client:
        number, expected = streams.start(h2_get(target, "/sse")), b""
        for event in (b"one", b"two", b"three"):
            tls_origin.events.put(event)
            expected += b"data: " + event + b"\n\n"
            assert streams.body_so_far(number, len(expected)) == expected
            assert streams.ask(h2_get(target, "/t")).status == 200, "other streams go on meanwhile"
        tls_origin.events.put(None)
        assert streams.wait(number).body == expected


def test_an_upload_passes_piece_by_piece(proxy: ProxyProcess, target: str, tls_origin: HttpOrigin) -> None:
    streams, mark = enter_h2(proxy, target), tls_origin.recorder.mark()
    with streams.client:
        head = (*h2_get(target, "/echo", method="POST"), (b"content-length", b"35"))
        number = streams.start(head, end=False)
        for count in range(5):
            piece = b"piece-%d" % count
            streams.send_body(number, piece, end=count == 4)
            tls_origin.recorder.wait_for(piece, mark)  # at the origin while the upload goes on
        assert streams.wait(number).json()["length"] == 35


def test_an_answer_without_a_length_is_whole(proxy: ProxyProcess, target: str) -> None:
    for path, body in (("/chunked", b"one two three"), ("/until-close", b"ends with the connection")):
        with enter(proxy, target) as client:
            assert client.ask(http1_bytes(target.encode(), Inner(path=path.encode()))).body == body
        streams = enter_h2(proxy, target)
        with streams.client:
            assert streams.ask(h2_get(target, path)).body == body


def test_an_answers_trailers_pass_between_http2_peers(proxy: ProxyProcess, authority: TestAuthority) -> None:
    """Those of requests end at the proxy: nobody has judged them."""
    with Http2Origin(authority.server_context(API, alpn=("h2",))) as server:
        target = f"{API}:{server.port}"
        streams = enter_h2(proxy, target)
        with streams.client:
            number = streams.start((*h2_get(target, "/trailers", method="POST"), (b"te", b"trailers")), end=False)
            streams.send_body(number, b"hello", end=False)
            streams.connection.send_headers(number, [(b"x-sum", b"1")], end_stream=True)
            streams.flush()
            answer = streams.wait(number)
    assert (answer.status, answer.trailers) == (200, (("x-checksum", "1234"),))
    (head,) = (json.loads(line) for line in server.recorder.heads)
    assert ["te", "trailers"] in head


def test_trailers_cannot_bring_back_what_the_hook_sets(proxy: ProxyProcess, authority: TestAuthority) -> None:
    """Nor what names another host, or ends at the proxy."""
    mine = [(b"authorization", b"Bearer mine"), (b"host", b"evil.test"), (b"x-forwarded-for", b"mine")]
    with Http2Origin(authority.server_context(API, alpn=("h2",))) as server:
        target = f"{API}:{server.port}"
        streams = enter_h2(proxy, target)
        with streams.client:
            number = streams.start(h2_get(target, "/t", method="POST"), end=False)
            streams.send_body(number, b"hello", end=False)
            streams.connection.send_headers(number, mine, end_stream=True)
            streams.flush()
            with contextlib.suppress(StreamCut):  # It may be refused as a whole.
                assert streams.wait(number).status in (200, 400)
    sent = [pair for line in server.recorder.heads for pair in json.loads(line)]
    assert [value for name, value in sent if name == "authorization"] in ([], [f"Bearer {CANARY}"])
    assert not any("mine" in value or "evil.test" in value for _, value in sent)


def test_http1_trailers_of_the_origin_are_left_out(proxy: ProxyProcess, target: str) -> None:
    with enter(proxy, target) as client:
        answer = client.ask(http1_bytes(target.encode(), Inner(path=b"/trailers")))
        assert (answer.body, answer.trailers) == (b"with trailers", ())
        assert client.ask(http1_bytes(target.encode(), Inner(path=b"/t"))).status == 200
    streams = enter_h2(proxy, target)
    with streams.client:
        assert streams.ask(h2_get(target, "/trailers")).body == b"with trailers"
