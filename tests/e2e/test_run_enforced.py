"""`codex-proxy run --enforce`: the command has a network of its own, and the proxy is the only way out of it."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.clients import Done, need, run
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.process import python
from tests.kit.run_command import Runner, need_namespaces

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="network namespaces are Linux's")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    need_namespaces()
    return Runner(tmp_path / "home", OPEN)


def enforced(runner: Runner, *command: str | Path) -> Done:
    return runner.run(*command, options=["--enforce"])


@pytest.fixture
def neighbour() -> Iterator[int]:
    """A port on this machine's loopback at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_the_proxy_is_a_way_out(runner: Runner, origin: HttpOrigin) -> None:
    url = f"http://allowed.test:{origin.port}/t"
    done = enforced(runner, need("curl"), "-sS", url, "--next", "-sS", "-x", "socks5h://127.0.0.1:8081", url)
    assert (done.code, done.out, done.err) == (0, "ok from shared\n" * 2, "")


# Python without the test's world, in which nothing leaves the machine anyway: `-I` keeps it out.


def test_there_is_no_other(runner: Runner, neighbour: int) -> None:
    attempts = f"""
import errno, json, socket
found = {{}}
for kind, address in {{
    "another machine": (socket.SOCK_STREAM, ("192.0.2.1", 443)),
    "its name server": (socket.SOCK_DGRAM, ("192.0.2.1", 53)),
    "a neighbour": (socket.SOCK_STREAM, ("127.0.0.1", {neighbour})),
}}.items():
    with socket.socket(socket.AF_INET, address[0]) as sock:
        found[kind] = errno.errorcode.get(sock.connect_ex(address[1]), "connected")
found["interfaces"] = [name for _, name in socket.if_nameindex()]
print(json.dumps(found))
"""
    assert json.loads(enforced(runner, *python("-I", "-c", attempts)).out) == {
        "another machine": "ENETUNREACH",
        "its name server": "ENETUNREACH",
        "a neighbour": "ECONNREFUSED",
        "interfaces": ["lo"],
    }
    alone = json.loads(runner.run(*python("-I", "-c", attempts)).out)
    assert alone["a neighbour"] == "connected", "without the fence"
    done = enforced(runner, need("curl"), "-sS", "--noproxy", "*", f"http://127.0.0.1:{neighbour}/")
    assert done.code == 7


def test_nobody_outside_gets_in(runner: Runner) -> None:
    """The listeners are in the namespace; on this machine no port was opened."""
    assert enforced(runner, "true").code == 0
    assert runner.world.binds() == []


def test_blocks_say_why_as_ever(runner: Runner, origin: HttpOrigin) -> None:
    done = enforced(runner, need("curl"), "-sS", f"http://evil.test:{origin.port}/")
    assert '"reason":"not_allowed"' in done.out
    assert f"--allow evil.test:{origin.port}" in done.err


def test_the_command_is_the_same_user_with_its_own_files(runner: Runner) -> None:
    script = "id -u; id -g; echo mine > file; stat -c %u file; cat /etc/hostname >/dev/null && echo read"
    alone = runner.run("sh", "-c", script)
    assert enforced(runner, "sh", "-c", script).out == alone.out
    assert "read" in alone.out


def test_it_may_serve_itself_on_loopback(runner: Runner) -> None:
    script = """
import os, socket, threading, urllib.request
server = socket.create_server(("127.0.0.1", 0))
def serve():
    sock, _ = server.accept()
    sock.recv(999)
    sock.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\nconnection: close\\r\\n\\r\\nme")
    sock.close()
threading.Thread(target=serve).start()
print(urllib.request.urlopen("http://127.0.0.1:%d/" % server.getsockname()[1]).read().decode())
print(os.environ["NO_PROXY"])
"""
    assert enforced(runner, *python("-I", "-c", script)).out == "me\nlocalhost,127.0.0.1,::1\n"


def test_datagrams_over_socks_are_refused(runner: Runner) -> None:
    """The socket for them would be out of the command's reach."""
    script = """
import socket
with socket.create_connection(("127.0.0.1", 8081)) as sock:
    sock.sendall(b"\\x05\\x01\\x00")
    sock.recv(2)
    sock.sendall(b"\\x05\\x03\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00")
    print(sock.recv(10)[1])
"""
    assert enforced(runner, *python("-I", "-c", script)).out == "7\n"


def test_the_exit_code_and_signals_are_the_commands(runner: Runner) -> None:
    assert enforced(runner, "sh", "-c", "exit 5").code == 5
    assert enforced(runner, "no-such-program").code == 127
    script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    with runner.start("sh", "-c", script, options=["--enforce"]) as process:
        process.until_printed("ready")
        assert process.stop() == 9


def test_a_fence_with_a_hole_where_it_is_tried_lets_nothing_run(runner: Runner) -> None:
    done = runner.run("sh", "-c", "echo it ran", options=["--enforce", "--allow", "**.invalid"])
    assert (done.code, done.out) == (125, "")


NO_NAMESPACES = """
import os, sys
os.unshare(os.CLONE_NEWUSER)
with open("/proc/sys/user/max_user_namespaces", "w") as limit:
    limit.write("0")
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Runs a command where the kernel gives no further namespace."""


def test_a_kernel_that_refuses_is_an_error_and_never_a_fallback(runner: Runner) -> None:
    command = runner.command("sh", "-c", "echo it ran", options=["--enforce"])
    done = run(python("-c", NO_NAMESPACES, *command), runner.home, runner.environment)
    assert (done.code, done.out) == (125, "")
    first, second = done.err.splitlines()
    assert first == "codex-proxy: the kernel refuses a network namespace (No space left on device)"
    assert second == "codex-proxy: --enforce: see sysctl user.max_user_namespaces"
    assert runner.world.binds() == []
