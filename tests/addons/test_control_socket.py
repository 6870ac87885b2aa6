"""The control socket: private, bounded, and never in the way of the proxy."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from codex_network_proxy.addons import control_socket as module
from codex_network_proxy.addons.control_socket import Command, ControlSocket, socket_path, socket_paths
from tests.socks.sockets import run


def fail(_: str) -> object:
    raise RuntimeError("s3cret")


def refuse(_: str) -> object:
    raise ValueError("not that way")


COMMANDS: Mapping[str, Command] = {"echo": lambda text: [text], "fail": fail, "refuse": refuse}


def serving(home: Path, scenario: Callable[[ControlSocket], Awaitable[None]]) -> None:
    async def body() -> None:
        control = ControlSocket(home, COMMANDS)
        await control.start()
        try:
            await scenario(control)
        finally:
            control.close()
            control.close()
        assert not control.path.exists()

    run(body)


async def asked(path: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line)
    try:
        return await reader.read()
    finally:
        writer.close()


NAMES = "write one of: echo, fail, refuse"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        pytest.param(b'{"command":"echo","argument":"x"}\n', {"result": ["x"]}, id="a command with an argument"),
        pytest.param(b'{"command":"echo"}\n', {"result": [""]}, id="a command without one"),
        pytest.param(b'{"command":"echo","argument":7}\n', {"result": [""]}, id="an argument that is no text"),
        pytest.param(b'{"command":"refuse"}\n', {"error": "not that way"}, id="a command that says no"),
        pytest.param(b'{"command":"fail"}\n', {"error": "failed (RuntimeError)"}, id="a command that fails"),
        pytest.param(b'{"command":"open"}\n', {"error": NAMES}, id="an unknown command"),
        pytest.param(b'{"command":["echo"]}\n', {"error": NAMES}, id="a command that is no text"),
        pytest.param(b"[]\n", {"error": NAMES}, id="a request that is no object"),
        pytest.param(b"status\n", {"error": NAMES}, id="a request that is no JSON"),
    ],
)
def test_each_request_has_one_answer(
    tmp_path: Path, line: bytes, answer: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(control: ControlSocket) -> None:
        assert json.loads(await asked(control.path, line)) == answer

    serving(tmp_path, scenario)
    assert "s3cret" not in caplog.text


def test_only_this_user_may_ask(tmp_path: Path) -> None:
    async def scenario(control: ControlSocket) -> None:
        assert control.path.stat().st_mode & 0o777 == 0o600
        assert control.path.parent.stat().st_mode & 0o777 == 0o700

    serving(tmp_path, scenario)


def test_a_request_without_end_is_cut_off(tmp_path: Path) -> None:
    async def scenario(control: ControlSocket) -> None:
        assert await asked(control.path, b"x" * (3 * module.REQUEST_LIMIT)) == b""

    serving(tmp_path, scenario)


def test_who_says_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_TIME", 0.01)

    async def scenario(control: ControlSocket) -> None:
        assert await asked(control.path, b'{"command":"echo"}') == b""

    serving(tmp_path, scenario)


def test_who_says_nothing_makes_room_for_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_TIME", 3600.0)

    async def scenario(control: ControlSocket) -> None:
        silent = [await asyncio.open_unix_connection(control.path) for _ in range(3 * module.CLIENTS)]
        for reader, _ in silent[: 2 * module.CLIENTS]:
            assert await reader.read() == b"", "bounded, the oldest go first"
        assert await asked(control.path, b'{"command":"echo"}\n') == b'{"result": [""]}\n'
        for _, writer in silent:
            writer.close()

    serving(tmp_path, scenario)


def test_what_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = socket_path(tmp_path, os.getpid())
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def scenario(control: ControlSocket) -> None:
        assert json.loads(await asked(control.path, b'{"command":"echo"}\n')) == {"result": [""]}

    serving(tmp_path, scenario)


def test_without_a_place_for_it_the_proxy_runs_without_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "proxy").write_text("in the way")

    async def scenario(control: ControlSocket) -> None:
        assert "no control socket at" in caplog.text

    serving(tmp_path, scenario)


def test_a_path_that_is_too_long_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(control: ControlSocket) -> None:
        assert "no control socket at" in caplog.text

    serving(tmp_path / ("x" * 120), scenario)


def test_sockets_are_found_by_process(tmp_path: Path) -> None:
    folder = tmp_path / "proxy"
    folder.mkdir()
    for name in ("control-7.sock", "control-x.sock", "ca.pem"):
        (folder / name).touch()
    assert socket_paths(tmp_path) == [(7, folder / "control-7.sock")]
    assert socket_paths(tmp_path / "nowhere") == []
