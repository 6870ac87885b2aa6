"""WebSockets where HTTPS is read: what is sent arrives, in both directions (spec A4.7, security case H07)."""

from __future__ import annotations

import base64
import os

import pytest

from tests.kit.fleet import Fleet
from tests.kit.hooks import API, CANARY, Hook, Inject, inspecting
from tests.kit.inner import enter
from tests.kit.origins import Exchange, HttpOrigin
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client
from tests.kit.tls import TestAuthority
from tests.kit.websocket import BINARY, CLOSE, TEXT, accept_key, frame, read_frame, send_message, upgrade

POLICY = inspecting(Hook(API, ("GET",), ("/ws",), inject=(Inject(),)))
MASK = b"abcd"
PING, PONG = 9, 10


@pytest.fixture
def proxy(inspected: Fleet, fast_path: bool) -> ProxyProcess:
    return inspected.get(POLICY, fast_path)


@pytest.fixture
def target(tls_origin: HttpOrigin) -> str:
    return f"{API}:{tls_origin.port}"


def opened(client: Client, target: str) -> Client:
    assert upgrade(client, "/ws", target).status == 101
    assert read_frame(client.stream) == (TEXT, b"hello")
    return client


def test_messages_go_both_ways(proxy: ProxyProcess, target: str, tls_origin: HttpOrigin) -> None:
    with enter(proxy, target) as client:
        opened(client, target)
        for payload in (b"", b"a", "\u00fcber".encode(), b"x" * 70_000):
            send_message(client, payload)
            assert read_frame(client.stream) == (TEXT, payload)
        noise = os.urandom(200_000)
        send_message(client, noise, BINARY)
        assert read_frame(client.stream) == (BINARY, noise)
    assert f"authorization: Bearer {CANARY}".encode() in tls_origin.recorder.heads[-1]


def one_message(exchange: Exchange) -> None:
    """An origin that collects a message until its last frame, sends it back whole, and closes."""
    key = exchange.head.get("sec-websocket-key") or ""
    accept = f"sec-websocket-accept: {accept_key(key)}"
    exchange.start("101 Switching Protocols", "upgrade: websocket", "connection: Upgrade", accept)
    message, final = b"", False
    while not final:
        first = exchange.stream.exactly(1)
        exchange.stream.buffer = first + exchange.stream.buffer
        final = bool(first[0] & 0x80)
        message += read_frame(exchange.stream)[1]
    exchange.send(frame(message) + frame(b"\x03\xe8", CLOSE))
    read_frame(exchange.stream)


def test_a_message_in_pieces_arrives_whole(proxy: ProxyProcess, authority: TestAuthority) -> None:
    with HttpOrigin("pieces", {"ws": one_message}, tls=authority.server_context(API)) as server:
        target = f"{API}:{server.port}"
        with enter(proxy, target) as client:
            assert upgrade(client, "/ws", target).status == 101
            unfinished = bytearray(frame(b"one ", TEXT, MASK))
            unfinished[0] &= 0x7F
            client.send(bytes(unfinished) + frame(b"", 0, MASK).replace(b"\x80", b"\x00", 1), step=1)
            client.send(frame(b"two", 0, MASK), step=1)
            assert read_frame(client.stream) == (TEXT, b"one two")


def test_control_frames_are_answered(proxy: ProxyProcess, target: str) -> None:
    with enter(proxy, target) as client:
        opened(client, target)
        client.send(frame(b"beat", PING, MASK))
        opcode, payload = read_frame(client.stream)
        assert (opcode in (PING, PONG), payload) == (True, b"beat")


def test_a_close_closes_both_sides(proxy: ProxyProcess, target: str, tls_origin: HttpOrigin) -> None:
    with enter(proxy, target) as client:
        opened(client, target)
        send_message(client, b"\x03\xe8", CLOSE)
        assert read_frame(client.stream) == (CLOSE, b"\x03\xe8")
        assert client.ended()
    connection = tls_origin.recorder.connections[-1]
    tls_origin.recorder.wait(lambda: connection.closed, "the origin's end")


def test_a_client_that_goes_away_ends_the_origins_side(
    proxy: ProxyProcess, target: str, tls_origin: HttpOrigin
) -> None:
    with enter(proxy, target) as client:
        opened(client, target)
        connection = tls_origin.recorder.connections[-1]
    tls_origin.recorder.wait(lambda: connection.closed, "the origin's end")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", id="HTTP instead of frames"),
        pytest.param(bytes([0x83, 0x80]) + MASK, id="an unknown kind of frame"),
        pytest.param(bytes([0xC1, 0x81]) + MASK + b"a", id="a compressed frame that was not agreed on"),
        pytest.param(
            bytes([0x89, 0xFE]) + (200).to_bytes(2) + MASK + bytes(200), id="a control frame that is too long"
        ),
    ],
)
def test_what_is_no_frame_ends_it(data: bytes, proxy: ProxyProcess, target: str, tls_origin: HttpOrigin) -> None:
    with enter(proxy, target) as client:
        opened(client, target)
        client.send(data)
        connection = tls_origin.recorder.connections[-1]
        while (opcode := read_frame(client.stream)[0]) != CLOSE:
            assert opcode in (TEXT, BINARY)
    tls_origin.recorder.wait(lambda: connection.closed, "the origin's end")
    assert b"evil.test" not in connection.received


def test_compression_is_agreed_end_to_end_or_not_at_all(proxy: ProxyProcess, target: str) -> None:
    with enter(proxy, target) as client:
        key = base64.b64encode(os.urandom(16)).decode()
        fields = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
        head = "\r\n".join(["GET /ws HTTP/1.1", f"Host: {target}", *fields, offer, "", ""])
        answer = client.ask(head.encode())
        assert (answer.status, answer.get("sec-websocket-extensions")) == (101, None), "the origin agreed to nothing"
        assert read_frame(client.stream) == (TEXT, b"hello")
        send_message(client, b"plain")
        assert read_frame(client.stream) == (TEXT, b"plain")
