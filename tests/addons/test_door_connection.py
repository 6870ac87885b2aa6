"""How the HTTP door puts a head together, however it arrives."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import cast

import pytest

from codex_network_proxy.addons.door_client import DoorClient
from codex_network_proxy.addons.door_connection import DoorConnection
from codex_network_proxy.addons.doorway import Doorway
from codex_network_proxy.socks.deadlines import Deadlines

HEAD = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"


class Limits:
    """Stands for deadlines: counts how often a client was put under them."""

    def __init__(self) -> None:
        self.added = 0

    def add(self, _: object) -> None:
        self.added += 1

    def discard(self, _: object) -> None:
        pass


class Reading(DoorConnection):
    """A client whose heads are looked at, not acted on."""

    heads: tuple[bytes, ...] = ()

    def _act_on(self, received: bytes, end: int) -> None:
        self.heads = (*self.heads, received[:end])


def fed(*pieces: bytes) -> tuple[tuple[bytes, ...], int]:
    """The heads that were read, and how often the deadline of a head began."""
    idle, head_due = Limits(), Limits()
    with socket.socket() as sock:
        client = Reading(cast(Doorway, SimpleNamespace(idle=idle, head_due=head_due)), sock, "127.0.0.1:1")
        client.limit(cast("Deadlines[DoorClient]", idle))
        for piece in pieces:
            client._take(piece)
    return client.heads, head_due.added


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([HEAD], id="at once"),
        pytest.param(bytewise(HEAD), id="byte by byte"),
        pytest.param([b"\r\n" + HEAD], id="an empty line before it"),
        pytest.param(bytewise(b"\r\n" + HEAD), id="an empty line, byte by byte"),
        pytest.param([b"\r", b"\n" + HEAD[:-1], HEAD[-1:]], id="an empty line in two, and the last byte alone"),
        pytest.param([b"\r\n", HEAD[:-1], HEAD[-1:]], id="an empty line, and the last byte alone"),
        pytest.param([b"\r", b"\n" + HEAD[:-3], HEAD[-3:]], id="the end in two"),
        pytest.param([b"\r", b"\n", b"\r", b"\n", HEAD], id="two empty lines"),
    ],
)
def test_a_head_is_complete_with_its_last_byte(pieces: list[bytes]) -> None:
    heads, _ = fed(*pieces)
    assert heads == (HEAD,)


@pytest.mark.parametrize(
    ("pieces", "begun"),
    [
        pytest.param([b"GET"], 1, id="with the first byte"),
        pytest.param(bytewise(HEAD[:-1]), 1, id="once"),
        pytest.param([b"\r\n"] * 5, 0, id="not with empty lines, which leave the client idle"),
        pytest.param([b"\r", b"\n"] * 5, 1, id="once also when empty lines come in two"),
    ],
)
def test_the_time_for_a_head_begins(pieces: list[bytes], begun: int) -> None:
    assert fed(*pieces) == ((), begun)
