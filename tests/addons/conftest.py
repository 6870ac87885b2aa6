"""What several of the test files beside this one ask for."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.tcp_origins import TcpOrigin, echo_bytes
from tests.kit.tls import TestAuthority

from .running_door import RunningDoor
from .runtime_kit import Place
from .sink_kit import Listening, listening
from .upstream_kit import PROXY


@pytest.fixture
def door() -> Iterator[RunningDoor]:
    with RunningDoor() as running:
        yield running


@pytest.fixture
def socks_door(door: RunningDoor) -> RunningDoor:
    """A door for SOCKS5 as well."""
    door.open_socks()
    return door


@pytest.fixture
def echo() -> Iterator[TcpOrigin]:
    with TcpOrigin(echo_bytes) as origin:
        yield origin


@pytest.fixture
def log() -> Iterator[Listening]:
    with listening() as handler:
        yield handler


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.close()


@pytest.fixture(scope="session")
def upstream_tls(authority: TestAuthority) -> ssl.SSLContext:
    """That of an upstream proxy of the name `PROXY`."""
    return authority.server_context(PROXY)
