"""The kit against itself, without a proxy: a test tool that lies is worse than none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import h2.connection
import h2.events
import pytest

from tests.kit.h2_origin import Http2Origin
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.process import Process, clean_environment, python
from tests.kit.raw import Client, exchange, get, request
from tests.kit.tcp_origins import BANNER, TcpOrigin, answer_then_listen, banner_first, count_then_answer, never_read
from tests.kit.tls import TestAuthority
from tests.kit.websocket import CLOSE, TEXT, read_frame, send_message, upgrade, websocket_echo
from tests.kit.wire import Ended
from tests.kit.world import World


@pytest.fixture(scope="module")
def origin() -> Iterator[HttpOrigin]:
    with HttpOrigin("kit", {"ws": websocket_echo}) as running:
        yield running


@pytest.fixture(scope="module")
def at(origin: HttpOrigin) -> str:
    return f"{origin.host}:{origin.port}"


def test_an_origin_answers_and_records_each_head(origin: HttpOrigin, at: str) -> None:
    mark = origin.recorder.mark()
    answer = exchange(at, get(f"http://{at}/t", "X-Mine: 1"))
    assert (answer.status, answer.get("x-origin"), answer.text) == (200, "kit", "ok from kit\n")
    (connection,) = origin.recorder.since(mark)
    assert b"\r\nX-Mine: 1\r\n" in connection.heads[0]


def test_a_mark_parts_what_came_before_from_what_comes_after(origin: HttpOrigin, at: str) -> None:
    known = len(origin.recorder.since(0))
    with ExitStack() as open_clients:
        early = [open_clients.enter_context(Client(at)) for _ in range(100)]
        mark = origin.recorder.mark()
        assert len(origin.recorder.connections) == known + len(early)
        late = open_clients.enter_context(Client(at))
        assert [one.peer for one in origin.recorder.since(mark)] == [late.address]


def test_bytes_sent_one_at_a_time_arrive_as_one_request(origin: HttpOrigin, at: str) -> None:
    assert exchange(at, get(f"http://{at}/echo"), step=1).json()["method"] == "GET"


def test_echo_shows_method_fields_and_length(at: str) -> None:
    seen = exchange(at, request("POST", f"http://{at}/echo", "X-A: b", body=b"12345")).json()
    assert (seen["method"], seen["length"]) == ("POST", 5)
    assert ["X-A", "b"] in seen["headers"]


def test_an_event_is_sent_only_after_the_test_released_it(origin: HttpOrigin, at: str) -> None:
    with Client(at) as client:
        client.send(get(f"http://{at}/sse"))
        for event in (b"one", b"two"):
            origin.events.put(event)
            assert event in client.stream.until(event + b"\n\n")
        origin.events.put(None)
        assert client.stream.until(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("path", "body"),
    [("chunked", b"one two three"), ("big?n=300000", bytes(300000)), ("until-close", b"ends with the connection")],
)
def test_each_framing_is_read_to_its_end(at: str, path: str, body: bytes) -> None:
    assert exchange(at, get(f"http://{at}/{path}")).body == body


def test_trailers_are_seen(at: str) -> None:
    assert exchange(at, get(f"http://{at}/trailers")).trailers == (("x-checksum", "1234"),)


def test_an_upload_is_counted(origin: HttpOrigin, at: str) -> None:
    assert exchange(at, request("POST", f"http://{at}/upload", body=bytes(500_000))).json() == {"received": 500_000}


def test_a_client_that_expects_it_gets_a_continue_first(at: str) -> None:
    answer = exchange(at, request("POST", f"http://{at}/t", "Expect: 100-continue", body=b"x"))
    assert (answer.interim, answer.status) == ((100,), 200)


def test_an_early_end_is_told_apart_from_an_answer(at: str) -> None:
    with pytest.raises(Ended, match="content-le"):
        exchange(at, get(f"http://{at}/raw/half-a-head"))


def test_websocket_messages_come_back(at: str) -> None:
    with Client(at) as client:
        assert upgrade(client, "/ws", at).status == 101
        assert read_frame(client.stream) == (TEXT, b"hello")
        for size in (5, 200, 70_000):
            send_message(client, bytes(size))
            assert read_frame(client.stream) == (TEXT, bytes(size))
        send_message(client, b"", CLOSE)
        assert read_frame(client.stream) == (CLOSE, b"")


def test_a_server_that_speaks_first() -> None:
    with TcpOrigin(banner_first) as server, Client(f"{server.host}:{server.port}") as client:
        assert client.stream.exactly(len(BANNER)) == BANNER
        client.send(b"EHLO")
        assert client.stream.exactly(4) == b"EHLO"


def test_half_close_both_ways() -> None:
    with TcpOrigin(count_then_answer) as server, Client(f"{server.host}:{server.port}") as client:
        client.send(b"12345")
        client.finish()
        assert client.stream.rest() == b"5 bytes"
    with TcpOrigin(answer_then_listen) as server, Client(f"{server.host}:{server.port}") as client:
        assert client.stream.rest() == b"all said"
        client.send(b"still here")
        client.finish()
        server.recorder.wait(lambda: b"still here" in bytes(server.recorder.connections[0].received), "the rest")


def test_an_origin_that_never_reads_ends_with_the_test() -> None:
    with TcpOrigin(never_read) as server, Client(f"{server.host}:{server.port}"):
        server.recorder.wait(lambda: len(server.recorder.connections) == 1, "the connection")


def test_tls_origins_are_known_by_name_and_remember_it(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    with (
        HttpOrigin("tls", tls=authority.server_context("a.test")) as server,
        Client(f"127.0.0.1:{server.port}") as client,
    ):
        client.start_tls(authority.client_context(), "a.test")
        assert client.ask(get("http://a.test/t")).text == "ok from tls\n"
        assert server.recorder.connections[0].sni == "a.test"


def test_http2_origin(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    context = authority.server_context("a.test", alpn=("h2",))
    with Http2Origin(context) as server, Client(f"127.0.0.1:{server.port}") as client:
        client.start_tls(authority.client_context(("h2",)), "a.test")
        connection = h2.connection.H2Connection()
        connection.initiate_connection()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/t")]
        connection.send_headers(1, fields, end_stream=True)
        client.send(connection.data_to_send())
        body = b""
        while b"ok from h2" not in body:
            events = connection.receive_data(client.stream.some())
            body += b"".join(one.data or b"" for one in events if isinstance(one, h2.events.DataReceived))
    assert b'[":authority", "a.test"]' in server.recorder.heads[0]


WORLDLY = """
import asyncio, socket
async def main():
    loop = asyncio.get_running_loop()
    for name in ("here.test", "here.test", "none.test"):
        try:
            found = await loop.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
            print(name, sorted(row[4][0] for row in found))
        except OSError as error:
            print(name, error)
    for address in ("192.0.2.1", "127.0.0.1"):
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, (address, 1))
        except OSError as error:
            print(address, error.errno)
        sock.close()
asyncio.run(main())
"""


def test_a_process_lives_in_the_world_it_is_given(tmp_path: Path) -> None:
    world = World(tmp_path / "world", {"here.test": [["127.0.0.1"], ["127.0.0.2", "::1"]]})
    environment = clean_environment(tmp_path, **world.environment)
    with Process(python("-c", WORLDLY), environment, tmp_path) as process:
        assert process.ended() == 0
    lines = process.output.splitlines()
    assert lines[:2] == ["here.test ['127.0.0.1']", "here.test ['127.0.0.2', '::1']"]
    assert "no such name" in lines[2]
    assert lines[3:] == ["192.0.2.1 101", "127.0.0.1 111"]
    assert world.lookups() == ["here.test", "here.test", "none.test"]
    assert world.dials() == [("192.0.2.1", 1), ("127.0.0.1", 1)]


def test_waiting_for_a_process_that_ended_fails_at_once(tmp_path: Path) -> None:
    with (
        Process(python("-c", "print('no'); raise SystemExit(3)"), clean_environment(tmp_path), tmp_path) as process,
        pytest.raises(AssertionError, match=r"(?s)ended with 3 before printing 'yes'.*no"),
    ):
        process.until_printed("yes")


def test_a_policy_is_written_as_the_file_wants_it() -> None:
    text = OPEN.toml()
    assert 'default_permissions = "test"' in text
    assert 'allowed_domains = ["allowed.test", "*.sub.test"]' in text
    assert OPEN.pin_arguments[:2] == ["--resolve", "allowed.test=127.0.0.1"]
