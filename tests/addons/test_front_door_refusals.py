"""What the HTTP door answers when there is no tunnel, and whom it cuts off."""

from __future__ import annotations

import socket
import struct

import pytest

from codex_network_proxy.addons.front_door import DoorLimits
from tests.kit.raw import Client, connect
from tests.kit.tcp_origins import TcpOrigin

from .running_door import PATIENCE, REQUEST_ID, RunningDoor, at, connected

TOKEN = b"to be or not to be"


@pytest.mark.parametrize(
    ("host", "status", "phrase", "error", "body"),
    [
        pytest.param(
            "blocked.test",
            403,
            "Blocked by network policy (blocked-by-allowlist)",
            "blocked-by-allowlist",
            "Codex blocked this request: domain not in allowlist (this is not a denylist block).",
            id="blocked",
        ),
        pytest.param(
            "disabled.test",
            503,
            "Blocked by network policy (proxy_disabled)",
            None,
            "Codex blocked this request by network policy.",
            id="disabled",
        ),
        pytest.param(
            "unresolved.test",
            502,
            "Bad Gateway (upstream failure: could not resolve unresolved.test)",
            None,
            "upstream failure: could not resolve unresolved.test",
            id="unresolved",
        ),
        pytest.param("unavailable.test", 500, "Internal Server Error", None, "error", id="unavailable"),
    ],
)
def test_each_verdict_has_its_answer_and_the_connection_goes_on(
    host: str, status: int, phrase: str, error: str | None, body: str, door: RunningDoor, echo: TcpOrigin
) -> None:
    with Client(door.address) as client:
        for _ in range(2):
            answer = client.ask(connect(f"{host}:443"), "CONNECT")
            assert (answer.status, answer.phrase, answer.text) == (status, phrase, body)
            assert answer.get("x-proxy-error") == error
            assert answer.get("x-proxy-request-id") == REQUEST_ID
            assert answer.get("content-type") == "text/plain"
            assert answer.get("connection") is None
        connected(client, echo)


def test_a_decision_that_fails_is_a_block(door: RunningDoor) -> None:
    with Client(door.address) as client:
        answer = client.ask(connect("raises.test:443"), "CONNECT")
    assert (answer.status, answer.get("x-proxy-error")) == (403, "blocked-by-policy")
    assert answer.get("x-proxy-request-id")
    assert door.log == ["a decision failed (ValueError); the request is denied"]


def test_a_decision_that_was_cancelled_is_a_block(door: RunningDoor) -> None:
    with Client(door.address) as client:
        client.send(connect("slow.test:443"))
        assert door.authority.waiting.wait(PATIENCE)
        assert door.authority.answer
        door.call(door.authority.answer.cancel)
        assert client.read("CONNECT").get("x-proxy-error") == "blocked-by-policy"


def test_an_answer_that_had_to_wait_comes_on_the_same_connection(door: RunningDoor) -> None:
    with Client(door.address) as client:
        for _ in range(2):
            client.send(connect("slow-blocked.test:443"))
            door.settle_decision()
            assert client.read("CONNECT").status == 403


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(connect("blocked.test:443", "Connection: close"), id="the client wants it"),
        pytest.param(connect("blocked.test:443", "Proxy-Connection: Close"), id="the client says it the old way"),
        pytest.param(b"CONNECT blocked.test:443 HTTP/1.0\r\n\r\n", id="HTTP/1.0"),
        pytest.param(connect("blocked.test:443") + TOKEN, id="bytes meant for the tunnel"),
        pytest.param(connect("blocked.test:443") + connect("allowed.test:443"), id="a head that came ahead"),
    ],
)
def test_a_refusal_ends_the_connection_when_what_follows_is_not_a_request(
    request_bytes: bytes, door: RunningDoor
) -> None:
    with Client(door.address) as client:
        answer = client.ask(request_bytes, "CONNECT")
        assert (answer.status, answer.get("connection")) == (403, "close")
        assert client.ended()
    assert len(door.authority.asked) == 1


def test_a_client_that_is_done_gets_its_refusal_and_the_end(door: RunningDoor) -> None:
    with Client(door.address) as client:
        client.send(connect("slow-blocked.test:443"))
        assert door.authority.waiting.wait(PATIENCE)
        client.finish()
        door.settle_decision()
        assert client.read("CONNECT").status == 403
        assert client.ended()
    door.wait_until_empty()


@pytest.mark.parametrize("goes", ["closes", "resets", "says that it is done"])
def test_nobody_need_decide_about_a_client_that(goes: str, door: RunningDoor) -> None:
    with Client(door.address) as client:
        peer = "{}:{}".format(*client.sock.getsockname())
        client.send(connect("slow.test:443"))
        assert door.authority.waiting.wait(PATIENCE)
        if goes == "resets":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if goes == "says that it is done":
            client.finish()
        else:
            client.sock.close()
        door.wait_until(lambda: door.authority.left == [peer])
        door.settle_decision()


def test_a_client_that_goes_later_leaves_no_question(door: RunningDoor, echo: TcpOrigin) -> None:
    with Client(door.address) as client:
        client.send(connect(at(echo, "slow.test")))
        door.settle_decision()
        assert client.read("CONNECT").status == 200
    door.wait_until_empty()
    assert door.authority.left == []


def test_a_dial_that_fails_says_so(door: RunningDoor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with Client(door.address) as client:
        for _ in range(2):
            answer = client.ask(connect(f"allowed.test:{port}"), "CONNECT")
            assert (answer.status, answer.text) == (502, "upstream failure: connection refused")
            assert answer.get("x-proxy-request-id") == REQUEST_ID


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, "missing host", id="no host"),
        pytest.param(b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", 400, None, id="a Host that disagrees"),
        pytest.param(b"CONNECT * HTTP/1.1\r\n\r\n", 400, "missing authority", id="CONNECT to a star"),
        pytest.param(b"GET http://a/ HTTP/1.1\nHost: a\n\n", 400, "malformed request head", id="bare line feeds"),
        pytest.param(b"\x05\x01\x00", 400, "this port speaks HTTP/1.1 only", id="SOCKS5"),
        pytest.param(b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", 400, "this port speaks HTTP/1.1 only", id="SOCKS4"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", 400, "this port speaks HTTP/1.1 only", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "unsupported HTTP version", id="HTTP/2"),
        pytest.param(b"TRACE http://a/ HTTP/1.1\r\n\r\n", 405, "TRACE is not supported", id="TRACE"),
        pytest.param(
            b"GET http://a/ HTTP/1.1\r\nA: " + b"a" * (1 << 16) + b"\r\n\r\n", 431, "request head too large", id="large"
        ),
        pytest.param(b"GET /" + b"a" * (1 << 17), 431, "request head too large", id="no end"),
    ],
)
@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "engine only"])
def test_a_bad_head_gets_one_answer_and_the_end(raw: bytes, status: int, body: str | None, fast_path: bool) -> None:
    with RunningDoor(fast_path=fast_path) as door, Client(door.address) as client:
        answer = client.ask(raw)
        assert (answer.status, answer.get("connection")) == (status, "close")
        assert body is None or answer.text == body
        assert (answer.get("allow") is not None) is (status == 405)
        assert client.ended()
        assert not door.engine.taken
        assert not door.authority.asked


def test_a_client_that_goes_on_sending_still_gets_its_answer(door: RunningDoor) -> None:
    with Client(door.address) as client:
        client.send(b"BAD\r\n\r\n" + bytes(200_000))
        assert client.read().status == 400
        client.send(bytes(200_000))
        client.finish()
        assert client.ended()
    door.wait_until_empty()


def test_a_client_that_never_stops_sending_is_cut_off() -> None:
    with RunningDoor(DoorLimits(linger_seconds=PATIENCE)) as door, Client(door.address) as client:
        client.send(b"BAD\r\n\r\n")
        with pytest.raises(ConnectionError):
            client.send(bytes(1 << 26))
        door.wait_until_empty()


def test_a_client_that_stays_after_its_last_answer_is_cut_off() -> None:
    with RunningDoor(DoorLimits(linger_seconds=0.01)) as door, Client(door.address) as client:
        assert client.ask(b"BAD\r\n\r\n").status == 400
        door.wait_until_empty()


def test_a_head_that_takes_too_long_is_answered() -> None:
    with RunningDoor(DoorLimits(head_seconds=0.01)) as door, Client(door.address) as client:
        answer = client.ask(b"CONNECT ")
        assert (answer.status, answer.text, answer.get("connection")) == (408, "request head timeout", "close")
        assert client.ended()


def test_a_client_that_says_nothing_is_closed_quietly() -> None:
    with RunningDoor(DoorLimits(idle_seconds=0.01)) as door, Client(door.address) as client:
        assert client.stream.rest() == b""
        door.wait_until_empty()


def test_the_idle_limit_holds_between_heads_too() -> None:
    with RunningDoor(DoorLimits(idle_seconds=0.05)) as door, Client(door.address) as client:
        assert client.ask(connect("blocked.test:443"), "CONNECT").status == 403
        assert client.stream.rest() == b""


@pytest.mark.parametrize("sent", [b"", b"CONN"], ids=["without a byte", "in the middle of a head"])
def test_a_client_that_goes_away_early_leaves_nothing(sent: bytes, door: RunningDoor) -> None:
    with Client(door.address) as client:
        client.send(sent)
    door.wait_until_empty()
    assert door.log == []


@pytest.mark.parametrize("step", [None, 1], ids=["at once", "byte by byte"])
def test_an_empty_line_before_a_head_is_tolerated(step: int | None, door: RunningDoor) -> None:
    with Client(door.address) as client:
        for _ in range(2):
            assert client.ask(b"\r\n" + connect("blocked.test:443"), "CONNECT", step).status == 403
