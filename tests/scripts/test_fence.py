"""The fence around a command: what is said when it does not stand, and that the command then never begins."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codex_network_proxy.scripts import fence, starter
from codex_network_proxy.scripts.cli import main
from codex_network_proxy.scripts.fence import FenceFailed, Order, Starter, hint, map_users

REFUSAL = b"HTTP/1.1 403 no\r\nX-Proxy-Request-Id: id-7\r\ncontent-length: 0\r\n\r\n"


@contextmanager
def answering(answer: bytes, family: socket.AddressFamily = socket.AF_INET) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that says the same to everybody: its address, and what it was asked."""
    host = "::1" if family is socket.AF_INET6 else "127.0.0.1"
    asked: list[bytes] = []
    with socket.create_server((host, 0), family=family) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                asked.append(sock.recv(9999))
                sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        yield (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), asked
        thread.join()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_refusal_proves_the_fence(family: socket.AddressFamily) -> None:
    with answering(REFUSAL, family) as (address, asked):
        assert starter.ask_for_refusal(address, "canary.invalid") == "id-7"
    assert asked[0].startswith(b"GET http://canary.invalid/ HTTP/1.1\r\nHost: canary.invalid\r\n")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nhello", "answered with 'HTTP/1.1 200 OK'", id="let through"),
        pytest.param(
            REFUSAL.replace(b"403 no", b"502 no"), "answered with 'HTTP/1.1 502 no'", id="allowed, and failed"
        ),
        pytest.param(b"HTTP/1.1 403 Forbidden\r\n\r\n", "was not refused", id="refused by somebody else"),
        pytest.param(b"", "answered with ''", id="nothing"),
        pytest.param(b"x-proxy-request-id: id-7 403", "was not refused", id="no HTTP"),
    ],
)
def test_anything_else_does_not(answer: bytes, words: str) -> None:
    with answering(answer) as (address, _), pytest.raises(starter.Failed, match=words):
        starter.ask_for_refusal(address, "canary.invalid")


def test_nobody_at_the_address() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(starter.Failed, match="cannot be reached from inside"):
            starter.ask_for_refusal(f"127.0.0.1:{silent.getsockname()[1]}", "canary.invalid")


def test_an_open_way_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        assert not starter.leads_nowhere(socket.AF_INET, socket.SOCK_STREAM, address)
        assert not starter.leads_nowhere(socket.AF_INET, socket.SOCK_DGRAM, address)
        monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo")])
        monkeypatch.setattr(starter, "WAYS_OUT", ((socket.AF_INET, socket.SOCK_STREAM, address),))
        with pytest.raises(starter.Failed, match=r"a way out of the namespace, to 127\.0\.0\.1"):
            starter.insist_on_closed_ways()
    assert not starter.leads_nowhere(socket.AF_INET, socket.SOCK_STREAM, address), "a refusal came from somewhere"


def test_another_interface_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0")])
    with pytest.raises(starter.Failed, match="there is a network"):
        starter.insist_on_closed_ways()


def order(command: str = "true") -> Order:
    return Order([command], {}, "127.0.0.1:1", "canary.invalid", 256)


@contextmanager
def instead_of_the_starter(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Starter]:
    """A starter that says something else. `say` and `hear` are lines of the socket."""
    file = folder / "other.py"
    head = "import socket, sys\nsock = socket.socket(fileno=int(sys.argv[1]))\n"
    file.write_text(head + "say, hear = sock.sendall, sock.makefile('rb').readline\n" + script)
    monkeypatch.setattr(fence, "STARTER", file)
    with Starter(enforce=False) as made:
        yield made
    assert made.process.returncode is not None, "nothing is left behind"


SILENCES = [
    pytest.param("", "has ended", id="it ends at once"),
    pytest.param("hear()\nsay(b'half a line')", "has ended", id="it ends in the middle"),
    pytest.param("hear()\nsay(b'{\"other\": 1}\\n')\nhear()", "is another version", id="it says something else"),
    pytest.param('hear()\nsay(b\'{"failure": "no luck"}\\n\')\nhear()', "no luck", id="it failed"),
]


@pytest.mark.parametrize(("script", "words"), SILENCES)
def test_a_starter_that_does_not_prove_anything(
    script: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with instead_of_the_starter(script, tmp_path, monkeypatch) as made, pytest.raises(FenceFailed, match=words):
        made.prove(order())


def test_a_starter_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "PATIENCE", 0.01)
    script = "hear()\nhear()\nhear()"
    with instead_of_the_starter(script, tmp_path, monkeypatch) as made, pytest.raises(FenceFailed, match="in time"):
        made.prove(order())


def test_without_the_word_to_go_the_command_does_not_begin(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with answering(REFUSAL) as (address, _), Starter(enforce=False) as made:
        command = ["/bin/sh", "-c", f"echo ran > {ran}"]
        assert made.prove(Order(command, {}, address, "canary.invalid", 256)) == "id-7"
    assert made.process.returncode in (125, -signal.SIGKILL), "it was told, or killed"
    assert not ran.exists()


def test_no_namespaces_but_those_of_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(FenceFailed, match="--enforce needs the network namespaces of Linux; this is darwin"):
        Starter(enforce=True)


def refusing(number: int) -> Callable[[Path, str], int]:
    def write(self: Path, text: str) -> int:
        raise OSError(number, os.strerror(number))

    return write


def test_users_that_cannot_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", refusing(errno.EPERM))
    monkeypatch.setattr(fence, "_everybody", lambda kind: "0 0 1\n")
    with pytest.raises(FenceFailed, match="refuses to name users"):
        map_users(1)


def test_an_ordinary_user_may_name_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, str]] = []

    def write(self: Path, text: str) -> int:
        if "\n" in text:
            raise PermissionError(errno.EPERM, "everybody")
        written.append((self.name, text))
        return len(text)

    monkeypatch.setattr(Path, "write_text", write)
    monkeypatch.setattr(fence, "_everybody", lambda kind: "0 0 9\n1 1 8\n")
    map_users(1)
    uid, gid = os.geteuid(), os.getegid()
    assert written == [("uid_map", f"{uid} {uid} 1"), ("setgroups", "deny"), ("gid_map", f"{gid} {gid} 1")]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("apparmor_restrict_unprivileged_userns", "1\n", "Ubuntu restricts it"),
        ("unprivileged_userns_clone", "0\n", "sysctl kernel.unprivileged_userns_clone"),
        ("max_user_namespaces", "0\n", "sysctl user.max_user_namespaces"),
        ("something else", "0\n", "a container that this runs in"),
    ],
)
def test_what_usually_stands_in_the_way(name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Path) -> str:
        if self.name != name:
            raise FileNotFoundError
        return value

    monkeypatch.setattr(Path, "read_text", read)
    assert words in hint()


def test_a_refusal_of_another_proxy_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    monkeypatch.setattr(Starter, "prove", lambda self, order: "id-of-another")
    assert main(["run", "--", "true"]) == 125
    assert capsys.readouterr().err == "codex-proxy: another proxy answered in place of this one\n"
