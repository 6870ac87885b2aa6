"""Who speaks something else than SOCKS5 to its port, and what is said of that."""

from __future__ import annotations

import pytest

from tests.kit.raw import Client
from tests.kit.socks_client import NO_METHOD, SocksClient

from .running_door import RunningDoor


@pytest.mark.parametrize(
    "greeting", [b"\x05\x00", b"\x05\x01\x02", b"\x05\x02\x01\x02"], ids=["none", "password", "two"]
)
def test_without_a_method_of_ours_there_is_no_tunnel(greeting: bytes, socks_door: RunningDoor) -> None:
    with SocksClient(socks_door.socks) as client:
        assert client.greet(greeting) == NO_METHOD
        assert client.ended()


def test_http_is_told_where_it_belongs(socks_door: RunningDoor) -> None:
    with Client(socks_door.socks) as client:
        answer = client.ask(b"CONNECT a.test:443 HTTP/1.1\r\n\r\n")
        assert (answer.status, answer.get("connection")) == (400, "close")
        assert answer.text == f"this port speaks SOCKS5, not HTTP; the HTTP proxy listens on {socks_door.address}"
        assert client.ended()
    assert socks_door.authority.asked == []


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        pytest.param(b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"\x00\x5b" + bytes(6), id="SOCKS4"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", b"", id="TLS"),
        pytest.param(b"\x00", b"", id="version 0"),
        pytest.param(b"\xff\xff", b"", id="noise"),
    ],
)
def test_other_protocols_are_closed_cleanly(sent: bytes, answer: bytes, socks_door: RunningDoor) -> None:
    with Client(socks_door.socks) as client:
        client.send(sent)
        assert client.stream.rest() == answer
    socks_door.wait_until_empty()
    assert socks_door.authority.asked == []


def test_the_log_says_why_and_not_what(socks_door: RunningDoor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), SocksClient(socks_door.socks) as client:
        client.command(b"secret\x00.test", 443)
        peer = client.address
    line = next(record.getMessage() for record in caplog.records)
    assert line == (f'SOCKS request rejected (client={peer}, reason="host has a character that no name has: U+0000")')
