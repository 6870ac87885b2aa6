"""Another script of the engine changes a request after it was allowed: the secret does not go along (spec A4.9)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote

import pytest

from tests.kit.canaries import BY_FILE, free_port, variables
from tests.kit.h2_client import StreamCut
from tests.kit.hooks import API, CANARY, Hook, Inject, inspecting
from tests.kit.inner import INNER_DOORS, Inner
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import MitmdumpProcess, ProxyProcess
from tests.kit.tls import TestAuthority
from tests.kit.wire import Ended

# Changes a request that was allowed, in the way its query says, at the turn its query says.
TAMPER = """
def change(flow, turn):
    how = flow.request.query
    if how.get("turn") != turn:
        return
    match how.get("tamper"):
        case "host": flow.request.host = "evil.test"
        case "port": flow.request.port = {port}
        case "scheme": flow.request.scheme = "http"
        case "path": flow.request.path = "/evil?" + flow.request.path.partition("?")[2]
        case "method": flow.request.method = "DELETE"
        case "header": flow.request.headers["x-http-method-override"] = "DELETE"
        case "host header": flow.request.headers["host"] = "evil.test"
        case "address": flow.server_conn.address = ("evil.test", {port})
        case "sni": flow.server_conn.sni = "evil.test"
        case "via": flow.server_conn.via = ("http", ("127.0.0.1", {port}))

def requestheaders(flow): change(flow, "requestheaders")
def request(flow): change(flow, "request")

def server_connect(data):
    if data.server.address and data.server.address[1] == {other}:
        data.server.address = ("127.0.0.1", {port})
"""
TAMPERED = ["host", "port", "scheme", "path", "method", "header", "host header", "address", "via"]


@pytest.fixture(scope="module")
def evil(authority: TestAuthority) -> Iterator[HttpOrigin]:
    """Where a secret must not go, though its certificate is in order."""
    with HttpOrigin("evil", tls=authority.server_context(API, "evil.test", BY_FILE)) as running:
        yield running


@pytest.fixture(scope="module")
def tampering(
    authority: TestAuthority, evil: HttpOrigin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ProxyProcess, int]]:
    home, other = tmp_path_factory.mktemp("tampering"), free_port()
    script = home / "tamper.py"
    script.write_text(TAMPER.format(port=evil.port, other=other))
    policy = inspecting(Hook(API, ("GET",), ("/t",), inject=(Inject(),)))
    made = MitmdumpProcess(home, policy, arguments=["-s", str(script)], environment=variables(authority))
    with made as proxy:
        proxy.until(proxy.ca.exists, "the authority")
        yield proxy, other


def test_a_request_that_nobody_changed_passes(tampering: tuple[ProxyProcess, int], tls_origin: HttpOrigin) -> None:
    for door in INNER_DOORS:
        assert (
            door.send(tampering[0], f"{API}:{tls_origin.port}".encode(), Inner(path=b"/t?turn=none")).word == "passed"
        )
        assert CANARY.encode() in tls_origin.recorder.heads[-1]


@pytest.mark.parametrize("turn", ["requestheaders", "request"])
@pytest.mark.parametrize("what", TAMPERED)
def test_e13_a_request_that_another_script_changed_gets_no_secret(
    what: str, turn: str, tampering: tuple[ProxyProcess, int], tls_origin: HttpOrigin, evil: HttpOrigin
) -> None:
    proxy, mark = tampering[0], tls_origin.recorder.mark()
    path = f"/t?tamper={quote(what)}&turn={turn}".encode()
    with suppress(Ended, StreamCut):
        for door in INNER_DOORS:
            door.send(proxy, f"{API}:{tls_origin.port}".encode(), Inner(path=path))
    assert CANARY.encode() not in evil.recorder.received
    for head in [head for connection in tls_origin.recorder.since(mark) for head in connection.heads]:
        changed = not head.startswith(b"GET " + path + b" ") or b"override" in head or b"evil" in head
        assert not (changed and CANARY.encode() in head)


def test_e13_a_dial_that_another_script_turned_aside_gets_no_secret(
    tampering: tuple[ProxyProcess, int], evil: HttpOrigin
) -> None:
    proxy, other = tampering
    for door in INNER_DOORS:
        assert door.send(proxy, f"{API}:{other}".encode(), Inner(path=b"/t")).word != "passed"
    assert not evil.recorder.heads
