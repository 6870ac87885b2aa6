"""A secret is on the wire to its hooked host and nowhere else: planted, used in every way, and then looked for."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kit.canaries import BY_FILE, FILED, check_absent, filed, files_below, free_port, planted, variables
from tests.kit.h2_client import get as h2_get
from tests.kit.hooks import API, CANARY, Hook, Inject, inspecting
from tests.kit.inner import INNER, INNER_DOORS, Inner, enter, enter_h2, http1_bytes
from tests.kit.mitmweb import WebReader
from tests.kit.origins import HttpOrigin
from tests.kit.process import Process
from tests.kit.proxy import MitmdumpProcess, ProxyProcess
from tests.kit.raw import exchange, get
from tests.kit.tls import TestAuthority
from tests.kit.websocket import read_frame, send_message, upgrade
from tests.kit.wire import Ended


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filed(tmp_path_factory.mktemp("secret") / "token.txt", FILED)


def use_every_way(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    """Good requests, blocked ones, failing origins and clients that go away; over both protocols, for both secrets."""
    for host in (API, BY_FILE):
        target = f"{host}:{origin.port}".encode()
        for door in INNER_DOORS:
            assert door.send(proxy, target, Inner(path=b"/t?x=1")).word == "passed"
            assert door.send(proxy, target, Inner(b"POST", b"/t", body=b"hello")).word == "passed"
            assert door.send(proxy, target, Inner(path=b"/t", fields=((b"authorization", b"mine"),))).word == "passed"
            assert door.send(proxy, target, Inner(path=b"/no")).word == "mitm_hook_denied"
            for bad in (b"nothing", b"status-099", b"half-a-head", b"not-http"):
                assert door.send(proxy, target, Inner(path=b"/raw/" + bad)).word == "failed"
        talk(proxy, target.decode())
        go_away(proxy, target.decode())
        exchange(proxy.http, get(f"https://{target.decode()}/t"))
        exchange(proxy.http, get(f"http://{target.decode()}/t"))
    received = origin.recorder.received
    assert received.count(f"authorization: Bearer {CANARY}".encode()) > 10
    assert received.count(f"x-key: {FILED}".encode()) > 10


def talk(proxy: ProxyProcess, target: str) -> None:
    with enter(proxy, target) as client:
        assert upgrade(client, "/ws", target).status == 101
        read_frame(client.stream)
        send_message(client, b"over the socket")
        read_frame(client.stream)


def go_away(proxy: ProxyProcess, target: str) -> None:
    """In the middle of a request, of an answer, and of a stream."""
    with enter(proxy, target) as client:
        client.send(b"POST /t HTTP/1.1\r\nHost: %b\r\nContent-Length: 1000\r\n\r\nhalf" % target.encode())
    with enter(proxy, target) as client:
        client.send(http1_bytes(target.encode(), Inner(path=b"/t")))
    streams = enter_h2(proxy, target)
    streams.start(h2_get(target, "/t", method="POST"), end=False)
    streams.client.sock.close()


def test_serve_leaves_no_trace(secret: Path, authority: TestAuthority, tls_origin: HttpOrigin, tmp_path: Path) -> None:
    arguments = ["-v", "--web", "--web-port", str(free_port())]
    with ProxyProcess(tmp_path, planted(secret), arguments=arguments, environment=variables(authority)) as proxy:
        web = WebReader(proxy)
        use_every_way(proxy, tls_origin)
        check_absent(web.everything(30).items())
        comments = {flow["comment"]: flow["marked"] for flow in web.flows()}
        assert comments["mitm_hooks[0] matched; headers stripped: none; injected on the wire: authorization"] == ""
        blocks = [mark for comment, mark in comments.items() if "mitm_hook_denied" in comment]
        assert blocks
        assert all(blocks)
        proxy.until_printed('"reason":"mitm_hook_denied"')
        check_absent([("command line", Path(f"/proc/{proxy.child.pid}/cmdline").read_bytes())])
    check_absent([("output", proxy.output.encode()), *files_below(tmp_path)])


def test_an_echo_is_not_logged(secret: Path, authority: TestAuthority, tls_origin: HttpOrigin, tmp_path: Path) -> None:
    """J07: the origin sends back what it got; the client may see it, our records may not."""
    with ProxyProcess(tmp_path, planted(secret), arguments=["-v"], environment=variables(authority)) as proxy:
        for door in INNER_DOORS:
            assert CANARY in door.send(proxy, f"{API}:{tls_origin.port}".encode(), Inner()).answer.text
    check_absent([("output", proxy.output.encode()), *files_below(tmp_path)])


# Sees what any script of the engine can see, at every turn.
SPY = """
import sys
OUT = open({out!r}, "a", buffering=1)

def look(*things):
    for thing in things:
        state = thing.get_state() if hasattr(thing, "get_state") else None
        print(repr(thing), state, {{k: repr(v) for k, v in vars(thing).items()}}, file=OUT)
        for part in (getattr(thing, "request", None), getattr(thing, "response", None)):
            print(part and part.headers.fields, part and part.raw_content, file=OUT)

for name in ("http_connect", "requestheaders", "request", "responseheaders", "response", "error", "websocket_start",
             "websocket_message", "websocket_end", "server_connect", "server_connected", "server_disconnected",
             "tls_start_server", "tls_established_server", "tls_established_client", "http_connect_error"):
    globals()[name] = look
"""
# Raises where it sees most; what it says of itself is in the log.
CRASH = """
def fail(flow):
    everything = flow.get_state()
    raise RuntimeError(f"it broke on {{flow!r}} {{flow.request.headers!r}} {{everything!r}}")

for name in ("request", "responseheaders", "response", "error", "websocket_message"):
    globals()[name] = fail
"""


@pytest.mark.parametrize("other", ["spy", "crash"])
def test_mitmdump_leaves_no_trace(
    other: str, secret: Path, authority: TestAuthority, tls_origin: HttpOrigin, tmp_path: Path
) -> None:
    script, seen = tmp_path / "other.py", tmp_path / "seen.txt"
    script.write_text((SPY if other == "spy" else CRASH).format(out=str(seen)))
    records = ["-w", str(tmp_path / "saved.flows"), "--set", f"hardump={tmp_path / 'saved.har'}"]
    options = ["-s", str(script), "--set", "flow_detail=4", "--set", "termlog_verbosity=debug", *records]
    made = MitmdumpProcess(tmp_path, planted(secret), arguments=options, environment=variables(authority))
    with made as proxy:
        proxy.until(proxy.ca.exists, "the authority")
        use_every_way(proxy, tls_origin)
        proxy.stop(signal.SIGINT)
    assert (tmp_path / "saved.flows").stat().st_size > 1000
    assert json.loads((tmp_path / "saved.har").read_bytes())["log"]["entries"]
    if other == "spy":
        assert b"/t?x=1" in seen.read_bytes()
    else:
        assert "it broke on" in proxy.output
    check_absent([("output", proxy.output.encode()), *files_below(tmp_path)])


@pytest.mark.parametrize("program", ["serve", "mitmdump"])
def test_no_session_key_is_written(
    program: str, secret: Path, authority: TestAuthority, tls_origin: HttpOrigin, tmp_path: Path
) -> None:
    """TLS libraries write their keys to a file that the environment names; with them, a capture can be read."""
    names = {name: str(tmp_path / name.lower()) for name in ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE")}
    kind = ProxyProcess if program == "serve" else MitmdumpProcess
    with kind(tmp_path, planted(secret), environment=variables(authority) | names) as proxy:
        proxy.until((tmp_path / "proxy" / "ca.pem").exists, "the authority")
        proxy.ca = tmp_path / "proxy" / "ca.pem"
        for door in INNER_DOORS:
            assert door.send(proxy, f"{API}:{tls_origin.port}".encode(), Inner(path=b"/t")).word == "passed"
    for path in map(Path, names.values()):
        assert not path.exists() or not path.read_bytes()


@pytest.mark.parametrize("option", ["ssl_insecure=true", "proxy_debug=true"])
def test_options_that_would_betray_it_are_refused(option: str, authority: TestAuthority, tmp_path: Path) -> None:
    """Refused at start, or started without: an origin that is not verified gets nothing, and bytes are not logged."""
    policy = inspecting(Hook(API, ("GET",), ("/t",), inject=(Inject(),)))
    made = MitmdumpProcess(tmp_path, policy, arguments=["--set", option], environment=variables(authority))
    (tmp_path / "other").mkdir()
    unknown = TestAuthority(tmp_path / "other").server_context(API)
    with Process(made.command, made.environment, tmp_path) as process, HttpOrigin("unknown", tls=unknown) as server:
        process.until(lambda: "listening on" in process.output or process.child.poll() is not None, "an outcome")
        if process.child.poll() is None:
            made.http, made.ca = made.address_in(process.output), tmp_path / "proxy" / "ca.pem"
            with suppress(Ended, ConnectionError):
                INNER.send(made, f"{API}:{server.port}".encode(), Inner(path=b"/t"))
    assert not server.recorder.heads
    assert f"{option.partition('=')[0]} must stay False" in process.output
    check_absent([("output", process.output.encode())])
