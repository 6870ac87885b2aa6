"""WebSockets pass in full mode, over plain HTTP and through CONNECT, and nothing else may switch protocols."""

from __future__ import annotations

import pytest

from tests.kit.answers import check_json_block
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import LIMITED, OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, connect, fresh_connection
from tests.kit.websocket import BINARY, CLOSE, TEXT, read_frame, send_message, upgrade


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


@pytest.fixture
def at(origin: HttpOrigin) -> str:
    return f"allowed.test:{origin.port}"


def converse(client: Client) -> None:
    """Greeted first, then messages of every length class, then the close handshake."""
    assert read_frame(client.stream) == (TEXT, b"hello")
    for size in (0, 5, 200, 70_000):
        send_message(client, bytes(size), BINARY)
        assert read_frame(client.stream) == (BINARY, bytes(size))
    for number in range(20):
        send_message(client, b"%d" % number)
    assert [read_frame(client.stream)[1] for _ in range(20)] == [b"%d" % number for number in range(20)]
    send_message(client, b"\x03\xe8", CLOSE)
    assert read_frame(client.stream) == (CLOSE, b"\x03\xe8")


def test_plain(proxy: ProxyProcess, at: str) -> None:
    with Client(proxy.http) as client:
        assert upgrade(client, f"http://{at}/ws", at).status == 101
        converse(client)


def test_through_connect(proxy: ProxyProcess, at: str) -> None:
    with Client(proxy.http) as client:
        assert client.ask(connect(at), "CONNECT").status == 200
        assert upgrade(client, "/ws", at).status == 101
        converse(client)


def test_a_plain_one_to_a_denied_host(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    at = f"denied.test:{origin.port}"
    mark = origin.recorder.mark()
    with Client(proxy.http) as client:
        check_json_block(upgrade(client, f"http://{at}/ws", at), "denied")
    assert not origin.recorder.since(mark)


def test_a_plain_one_in_limited_mode(fleet: Fleet, fast_path: bool, at: str, origin: HttpOrigin) -> None:
    mark = origin.recorder.mark()
    with Client(fleet.get(LIMITED, fast_path).http) as client:
        check_json_block(upgrade(client, f"http://{at}/ws", at), "method_not_allowed")
    assert not origin.recorder.since(mark)


OTHERS = ["foo", "h2c", "H2C", "h2c, websocket", "websocket, foo", "TLS/1.3", "websocketx"]


@pytest.mark.parametrize("protocol", OTHERS)
def test_no_other_protocol_is_switched_to(protocol: str, proxy: ProxyProcess, origin: HttpOrigin, at: str) -> None:
    """The upgrade is refused, or the request passes without it; the origin is never asked for it."""
    mark = origin.recorder.mark()
    with Client(proxy.http) as client:
        answer = upgrade(client, f"http://{at}/echo", at, protocol)
        assert answer.status in (200, 400, 403, 501), answer
    heads = [head.lower() for connection in origin.recorder.since(mark) for head in connection.heads]
    assert all(b"\r\nupgrade:" not in head for head in heads)


def test_an_unasked_switch_is_a_bad_answer(proxy: ProxyProcess, at: str) -> None:
    with Client(proxy.http) as client:
        answer = client.ask(f"GET http://{at}/raw/switching HTTP/1.1\r\nHost: {at}\r\n\r\n".encode())
        assert answer.status == 502, answer


def test_the_upgraded_connection_is_on_record_once(fleet: Fleet, fast_path: bool, at: str) -> None:
    proxy = fleet.get(OPEN, fast_path)
    with Client(proxy.http, sock=fresh_connection(proxy.http)) as client:
        assert upgrade(client, f"http://{at}/ws", at).status == 101
        address = client.address
        converse(client)
    events = proxy.audit_events(1, lambda event: event["client.address"] == address)
    assert [event["network.policy.decision"] for event in events] == ["allow"]
