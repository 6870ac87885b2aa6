"""`status`, `blocked` and their like: how their answers read, and what they say where there is no good answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from codex_network_proxy.addons.control_socket import socket_path
from codex_network_proxy.scripts import control_commands
from codex_network_proxy.scripts.cli import main
from codex_network_proxy.scripts.control_commands import duration

STATUS = {
    "pid": 7,
    "enabled": True,
    "socks": None,
    "blocked": 0,
    "audit_log": "/a.jsonl",
    "uptime": 65,
    "decisions": [
        {"protocol": "http", "decision": "allow", "reason": "allow", "count": 1},
        {"protocol": "http", "decision": "deny", "reason": "not_allowed", "count": 12},
    ],
}
Put = Callable[[int, object], Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def put(home: Path) -> Iterator[Put]:
    """Puts a proxy there that gives this answer to everything; `None` is one that has stopped."""
    with ExitStack() as ends:

        def listen(pid: int, answer: object) -> Path:
            path = socket_path(home, pid)
            path.parent.mkdir(exist_ok=True)
            listener = ends.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            listener.listen()
            if answer is not None:
                thread = threading.Thread(target=_answer, args=(listener, json.dumps(answer).encode() + b"\n"))
                thread.start()
                ends.callback(thread.join)
                ends.callback(listener.shutdown, socket.SHUT_RDWR)
            return path

        yield listen


def _answer(listener: socket.socket, answer: bytes) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            if client.recv(4096):
                client.sendall(answer)


def test_a_status_reads_well(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put(7, {"result": STATUS})
    assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "pid:             7",
        "enabled:         yes",
        "socks:           -",
        "blocked:         0",
        "audit log:       /a.jsonl",
        "uptime:          1 min 5 s",
        "         1 allow (http)",
        "        12 deny  not_allowed (http)",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86_399, "23 h 59 min"),
        (86_400, "1 d 0 h"),
        (30 * 86_400 + 7200, "30 d 2 h"),
    ],
)
def test_a_time_in_its_two_largest_units(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_several_proxies_are_kept_apart(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    for pid in (7, 8):
        put(pid, {"result": {"pid": pid, "enabled": False, "decisions": []}})
    assert main(["status"]) == 0
    assert (
        capsys.readouterr().out
        == "pid:             7\nenabled:         no\n\npid:             8\nenabled:         no\n"
    )
    assert main(["status", "--prometheus"]) == 1, "two of them are not the format any more"
    assert capsys.readouterr().err == "several proxies run (7, 8); add --pid\n"


def test_where_nothing_was_blocked_a_person_is_told_and_a_script_gets_nothing(
    put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    put(7, {"result": []})
    assert main(["blocked"]) == 0
    assert capsys.readouterr() == ("", "proxy 7 has blocked nothing\n")
    assert main(["blocked", "--json"]) == 0
    assert capsys.readouterr() == ('[{"pid": 7, "blocked": []}]\n', "")


def test_a_blocked_socket_has_no_port(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"host": "/run/a.sock", "port": 0, "reason": "proxy_disabled", "protocol": "http", "timestamp": 0}
    put(7, {"result": [{**entry, "method": None}]})
    assert main(["blocked"]) == 0
    assert capsys.readouterr().out == "1970-01-01 00:00:00Z /run/a.sock proxy_disabled (http)\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(None, "the proxy at PATH did not answer within 0 s", id="one that has stopped"),
        pytest.param([1], "what answers at PATH is no proxy", id="another program"),
        pytest.param({}, "what answers at PATH is no proxy", id="an answer without anything"),
        pytest.param({"error": "not now"}, "not now", id="an error"),
    ],
)
def test_one_that_does_not_answer_hides_no_other(
    answer: object, says: str, put: Put, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if answer is None:
        monkeypatch.setattr(control_commands, "PATIENCE", 0.2)
    path = put(6, answer)
    put(7, {"result": STATUS})
    assert main(["status"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("pid:             7\n")
    assert printed.err == says.replace("PATH", str(path)) + "\n"


def test_a_proxy_of_another_version_is_one_line(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put(7, {"result": {"http": "127.0.0.1:1", "news": 1, "secrets": []}})
    assert main(["env"]) == 1
    assert capsys.readouterr().err == "codex-proxy: the proxy that runs is of another version; start it again\n"


def test_one_that_has_stopped_is_not_taken_for_none(
    put: Put, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control_commands, "PATIENCE", 0.2)
    put(7, None)
    assert main(["env"]) == 1
    assert "did not answer" in capsys.readouterr().err
