"""Start, readiness, signals and the end: what a supervisor sees."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.process import Process, clean_environment
from tests.kit.proxy import MitmdumpProcess, ProxyProcess, serve_command
from tests.kit.raw import Client, connect, exchange, get, split_address
from tests.kit.socks_client import SocksClient
from tests.kit.tcp_origins import TcpOrigin, echo_bytes
from tests.kit.websocket import TEXT, read_frame, upgrade
from tests.kit.world import World

STOP_WITHIN = 2.0


def test_the_ready_file_says_who_and_where(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, OPEN) as proxy:
        ready = json.loads(proxy.ready_file.read_text())
        assert ready["pid"] == proxy.child.pid
        for name in ("http", "socks"):
            host, port = split_address(ready[name])
            assert host == "127.0.0.1"
            assert port in [bound for _, bound in proxy.world.binds()] or 0 in [port for _, port in proxy.world.binds()]
            Client(ready[name]).sock.close()
        assert "ca" in ready
        proxy.until_printed(f"SOCKS5 proxy listening on {ready['socks']}\n")
        lines = [line for line in proxy.output.splitlines() if "listening" in line]
        assert lines == [
            f"HTTP proxy listening on {ready['http']}",
            f"SOCKS5 proxy listening on {ready['socks']}",
        ]
        assert all(address == "127.0.0.1" for address, _ in proxy.world.binds())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_signal_ends_it_cleanly(how: signal.Signals, tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, OPEN) as proxy:
        address = split_address(proxy.http)
        started = time.monotonic()
        assert proxy.stop(how) == 0
        assert time.monotonic() - started < STOP_WITHIN
        assert "Traceback" not in proxy.output
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 1)


def test_open_connections_do_not_hold_it_up(tmp_path: Path, origin: HttpOrigin) -> None:
    at = f"allowed.test:{origin.port}"
    with (
        TcpOrigin(echo_bytes) as server,
        ProxyProcess(tmp_path, OPEN) as proxy,
        Client(proxy.http) as tunnel,
        Client(proxy.http) as socket_,
        Client(proxy.http) as stream,
        Client(proxy.http) as idle,
        Client(proxy.http) as half,
    ):
        assert tunnel.ask(connect(f"allowed.test:{server.port}"), "CONNECT").status == 200
        assert upgrade(socket_, f"http://{at}/ws", at).status == 101
        assert read_frame(socket_.stream) == (TEXT, b"hello")
        stream.send(get(f"http://{at}/sse"))
        stream.stream.until(b"\r\n\r\n")
        assert idle.ask(get(f"http://{at}/t")).status == 200
        half.send(b"GET http://allo")
        started = time.monotonic()
        assert proxy.stop() == 0
        assert time.monotonic() - started < STOP_WITHIN
        origin.events.put(None)
        for client in (tunnel, socket_, idle, half):
            assert client.ended()
    assert "Traceback" not in proxy.output


def test_a_second_signal_is_no_error(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, OPEN) as proxy:
        proxy.child.send_signal(signal.SIGTERM)
        proxy.child.send_signal(signal.SIGINT)
        assert proxy.ended() == 0
        assert "Traceback" not in proxy.output


def test_an_impatient_ctrl_c_is_no_error(tmp_path: Path) -> None:
    """It comes at every moment of the end, also when nothing runs any more."""
    with ProxyProcess(tmp_path, OPEN) as proxy:
        proxy.child.send_signal(signal.SIGTERM)
        while proxy.child.poll() is None:
            proxy.child.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                proxy.child.wait(0.002)
        assert proxy.ended() == 0
        assert "Traceback" not in proxy.output


def test_a_stalled_lookup_does_not_hold_up_the_end(tmp_path: Path) -> None:
    world = World(tmp_path / "world", {"hang.test": ["hang"]})
    with (
        ProxyProcess(tmp_path, replace(OPEN, allowed=("hang.test",)), world=world) as proxy,
        Client(proxy.http) as client,
    ):
        client.send(get("http://hang.test/"))
        proxy.until(lambda: "hang.test" in world.lookups(), "the look-up")
        started = time.monotonic()
        assert proxy.stop() == 0
        assert time.monotonic() - started < STOP_WITHIN


def test_nothing_is_left_in_the_temporary_folder_or_open_to_others(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, OPEN) as proxy:
        exchange(proxy.http, get("http://denied.test/"))
        proxy.audit_events(1)
        assert proxy.stop() == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "world" not in path.parts]
    readable = [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert proxy.audit_log not in readable, "the audit log is for its owner"


@pytest.mark.parametrize("key", ["proxy_url", "socks_url"])
@pytest.mark.parametrize("url", ["http://0.0.0.0:0", "http://[::]:0", "http://192.0.2.1:0", "http://proxy.lan.test:0"])
def test_l01_it_listens_on_loopback_only(url: str, key: str, tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, replace(OPEN, lines=(f'{key} = "{url}"',))) as proxy:
        assert {address for address, _ in proxy.world.binds()} <= {"127.0.0.1", "::1"}
        assert exchange(proxy.http, get("http://denied.test/")).status == 403


@pytest.mark.parametrize("key", ["proxy_url", "socks_url"])
def test_a_port_in_use(key: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        proxy = ProxyProcess(tmp_path, replace(OPEN, lines=(f'{key} = "http://127.0.0.1:{port}"',)))
        with Process(proxy.command, proxy.environment, tmp_path) as process:
            assert process.ended() == 1
    (line,) = process.output.splitlines()
    assert line.endswith(f"127.0.0.1:{port} is in use by another program")
    assert not proxy.ready_file.exists()


def test_one_address_for_both_listeners(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = tuple(f'{key} = "http://127.0.0.1:{port}"' for key in ("proxy_url", "socks_url"))
    proxy = ProxyProcess(tmp_path, replace(OPEN, lines=lines))
    with Process(proxy.command, proxy.environment, tmp_path) as process:
        assert process.ended() == 1
    (line,) = process.output.splitlines()
    assert line.endswith(f"127.0.0.1:{port} is both proxy_url and socks_url; write two ports")
    assert proxy.world.binds() == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("missing/ready.json", "No such file or directory", id="a folder that is missing"),
        pytest.param("folder", "", id="a folder"),  # the systems differ in what they call it
    ],
)
def test_a_ready_file_that_cannot_be_written_is_named(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    at = tmp_path / name
    proxy = ProxyProcess(tmp_path, OPEN)
    with Process([*proxy.command, "--ready-file", str(at)], proxy.environment, tmp_path) as process:
        assert process.ended() == 1
    line = process.output.splitlines()[-1]
    assert line.startswith(f"--ready-file {at} cannot be written: {why}")


def test_socks5_can_be_left_out(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, replace(OPEN, lines=("enable_socks5 = false",))) as proxy:
        assert json.loads(proxy.ready_file.read_text())["socks"] is None
        assert len(proxy.world.binds()) == 1
        assert "SOCKS5" not in proxy.output


def test_limited_mode_says_at_once_that_socks5_is_blocked(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, replace(OPEN, mode="limited")) as proxy:
        proxy.until_printed('SOCKS5 is blocked in limited mode; set mode="full" to allow SOCKS5')


def test_disabled_binds_nothing(tmp_path: Path) -> None:
    proxy = ProxyProcess(tmp_path, replace(OPEN, enabled=False))
    with Process(proxy.command, proxy.environment, tmp_path) as process:
        assert process.ended() == 0
    assert "network.enabled is false; skipping proxy listeners" in process.output
    assert proxy.world.binds() == []
    assert not proxy.ready_file.exists()


def test_without_a_file_the_built_in_profile_runs_and_says_so(tmp_path: Path) -> None:
    # The ports of the built-in profile are fixed; wherever they are taken, that is said instead.
    world = World(tmp_path / "world")
    environment = clean_environment(tmp_path, CODEX_HOME=str(tmp_path), **world.environment)
    ready = tmp_path / "ready.json"
    with Process(serve_command("--ready-file", ready), environment, tmp_path) as process:
        process.until(lambda: ready.exists() or "in use" in process.output, "being ready")
    assert "built-in" in process.output
    assert "codex-proxy init" in process.output


def test_the_second_start_is_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ProxyProcess(tmp_path / "first", OPEN):
        pass
    started = time.monotonic()
    with ProxyProcess(tmp_path / "second", OPEN) as proxy:
        ready = time.monotonic() - started
        memory = proxy.resident() >> 20 if Path("/proc/self/status").exists() else 0
    with capsys.disabled():
        print(f"\n[listening after {ready:.2f} s, idle with {memory} MiB]", end="")


def test_inherited_key_log_files_stay_empty(tmp_path: Path) -> None:
    keys = tmp_path / "keys.log"
    proxy = ProxyProcess(tmp_path, OPEN, environment={"SSLKEYLOGFILE": str(keys), "MITMPROXY_SSLKEYLOGFILE": str(keys)})
    with proxy:
        exchange(proxy.http, get("http://denied.test/"))
    assert not keys.exists() or keys.stat().st_size == 0


def test_l09_a_proxy_variable_that_points_at_itself_makes_no_loop(tmp_path: Path, origin: HttpOrigin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = f"http://127.0.0.1:{port}"
    policy = replace(OPEN, lines=(f'proxy_url = "{own}"',))
    environment = {name: own for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy")}
    with ProxyProcess(tmp_path, policy, environment=environment) as proxy:
        assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).text == "ok from shared\n"
        assert ("127.0.0.1", port) not in proxy.world.dials()


def test_the_proxy_never_dials_itself(tmp_path: Path) -> None:
    policy = replace(OPEN, allowed=("127.0.0.1", "self.test", "localhost"), pins=(("self.test", "127.0.0.1"),))
    with ProxyProcess(tmp_path, policy) as proxy:
        for host in ("127.0.0.1", "self.test", "localhost"):
            at = proxy.http.replace("127.0.0.1", host)
            for head, method in ((get(f"http://{at}/"), "GET"), (connect(at), "CONNECT")):
                answer = exchange(proxy.http, head, method)
                assert (answer.status, answer.get("x-proxy-error")) == (403, "blocked-by-allowlist"), answer
        assert ("127.0.0.1", split_address(proxy.http)[1]) not in proxy.world.dials()


def test_bare_mitmdump_serves_the_configured_address_only(tmp_path: Path, origin: HttpOrigin) -> None:
    with MitmdumpProcess(tmp_path, OPEN) as proxy:
        assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).text == "ok from shared\n"
        assert exchange(proxy.http, get(f"http://denied.test:{origin.port}/t")).status == 403
        wild = [(host, port) for host, port in proxy.world.binds() if host in ("0.0.0.0", "::", "") or port == 8080]
        assert wild == []
        assert proxy.stop(signal.SIGINT) == 0
    assert "Traceback" not in proxy.output


def test_bare_mitmdump_with_a_broken_file_ends(tmp_path: Path) -> None:
    proxy = MitmdumpProcess(tmp_path, OPEN)
    proxy.config.write_text("default_permissions = [")
    with Process(proxy.command, proxy.environment, tmp_path) as process:
        assert process.ended() == 1
    assert "config.toml" in process.output
    assert [port for _, port in proxy.world.binds() if port] == []


def test_bare_mitmdump_disabled_ends(tmp_path: Path) -> None:
    proxy = MitmdumpProcess(tmp_path, replace(OPEN, enabled=False))
    with Process(proxy.command, proxy.environment, tmp_path) as process:
        assert process.ended() == 0
    assert "network.enabled is false; skipping proxy listeners" in process.output


def test_an_engine_listener_of_the_users_own_is_policed(tmp_path: Path, origin: HttpOrigin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["--listen-host", "127.0.0.1", "-p", str(port)]
    with MitmdumpProcess(tmp_path, OPEN, arguments=arguments) as proxy:
        proxy.until(lambda: ("127.0.0.1", port) in proxy.world.binds(), "the user's own listener")
        own = f"127.0.0.1:{port}"
        assert exchange(own, get(f"http://allowed.test:{origin.port}/t")).text == "ok from shared\n"
        mark = origin.recorder.mark()
        assert exchange(own, get(f"http://denied.test:{origin.port}/t")).status == 403
        assert exchange(own, connect(f"evil.test:{origin.port}"), "CONNECT").status == 403
        assert not origin.recorder.since(mark)
    assert proxy.audit_log.exists()


def test_the_script_serves_both_ports_and_says_so(tmp_path: Path) -> None:
    with MitmdumpProcess(tmp_path, OPEN) as proxy, SocksClient(proxy.socks) as client:
        assert exchange(proxy.http, get("http://denied.test/")).status == 403
        assert client.command(b"denied.test", 443).code == 2


@pytest.mark.parametrize("key", ["proxy_url", "socks_url"])
def test_the_script_ends_when_one_of_its_ports_is_in_use(key: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        proxy = MitmdumpProcess(tmp_path, replace(OPEN, lines=(f'{key} = "http://127.0.0.1:{port}"',)))
        with Process(proxy.command, proxy.environment, tmp_path) as process:
            assert process.ended() == 1
    assert f"127.0.0.1:{port} is in use by another program" in process.output
    assert "listening on" not in process.output
