"""Connections of the engine to unix sockets: only where a grant leads, and only to the file that was judged (L05)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.proxy import server_hooks

from codex_network_proxy.addons.connection import REFUSED
from tests.kit.short_paths import short_folder

from .engine_kit import Answer, Lab, configuration, play
from .http1_requests import get
from .other_addons import Other

FAILED = (502, b"unix socket proxy failed")


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def on_mac(scenario: Callable[[Lab], Any], home: Path, folder: Path) -> None:
    """A proxy that has sockets, and allows `a.sock`."""
    text = configuration(lines=[f"allow_unix_sockets = {json.dumps([str(folder / 'a.sock')])}"])
    play(scenario, home, text, platform="darwin")


async def ask(lab: Lab, path: Path) -> Answer:
    head = b"GET http://api/t HTTP/1.1\r\nhost: api\r\nx-unix-socket: %b\r\n\r\n" % str(path).encode()
    return await (await lab.client()).ask(head)


def test_the_file_that_was_judged_is_reached(tmp_path: Path, folder: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.socket_origin(folder / "a.sock")
        flows: list[http.HTTPFlow] = []
        lab.add(Other("response", flows.append))
        assert (await ask(lab, folder / "a.sock")).status == 200
        assert [request.line for request in origin.requests] == [b"GET /t HTTP/1.1"]
        server = flows[0].server_conn
        assert server.address == server.peername == (str(folder / "a.sock"), 0)
        assert server.sockname is None

    on_mac(scenario, tmp_path, folder)


def test_a_file_that_is_exchanged_after_the_decision_is_not_reached(tmp_path: Path, folder: Path) -> None:
    async def scenario(lab: Lab) -> None:
        judged, secret = [await lab.socket_origin(folder / name) for name in ("a.sock", "secret.sock")]

        def exchange(_: http.HTTPFlow) -> None:
            (folder / "a.sock").unlink()
            (folder / "a.sock").symlink_to("secret.sock")

        lab.add(Other("requestheaders", exchange))
        answer = await ask(lab, folder / "a.sock")
        assert (answer.status, answer.body) == FAILED
        assert not judged.connections
        assert not secret.connections

    on_mac(scenario, tmp_path, folder)


@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_another_addon_leads_no_request_to_a_socket(hook: str, tmp_path: Path, folder: Path) -> None:
    def redirect(flow: http.HTTPFlow) -> None:
        flow.request.data.host, flow.request.data.port = str(folder / "a.sock"), 0

    async def scenario(lab: Lab) -> None:
        service, origin = await lab.socket_origin(folder / "a.sock"), await lab.origin()
        lab.add(Other(hook, redirect))
        answer = await (await lab.client()).ask(get(origin.port))
        assert (answer.status, answer.get("x-proxy-error")) == (403, "blocked-by-policy")
        assert not service.connections
        assert not origin.connections

    on_mac(scenario, tmp_path, folder)


def test_nor_a_dial(tmp_path: Path, folder: Path) -> None:
    def redirect(data: server_hooks.ServerConnectionHookData) -> None:
        data.server.address = (str(folder / "a.sock"), 0)

    async def scenario(lab: Lab) -> None:
        service, origin = await lab.socket_origin(folder / "a.sock"), await lab.origin()
        lab.add(Other("server_connect", redirect))
        answer = await (await lab.client()).ask(get(origin.port))
        assert (answer.status, answer.body) == (502, f"upstream failure: {REFUSED}".encode())
        assert not service.connections

    on_mac(scenario, tmp_path, folder)


def test_another_addon_may_ask_for_a_socket_before_the_policy_looks(tmp_path: Path, folder: Path) -> None:
    """It is then judged like a client that asks."""

    names = iter(("secret.sock", "a.sock"))

    def ask_for_next(flow: http.HTTPFlow) -> None:
        flow.request.headers["x-unix-socket"] = str(folder / next(names))

    async def scenario(lab: Lab) -> None:
        service, origin = await lab.socket_origin(folder / "a.sock"), await lab.origin()
        lab.add(Other("requestheaders", ask_for_next), "codex-settings")
        assert (await (await lab.client()).ask(get(origin.port))).status == 403
        assert not service.connections
        assert (await (await lab.client()).ask(get(origin.port))).status == 200
        assert len(service.requests) == 1
        assert not origin.connections

    on_mac(scenario, tmp_path, folder)


def test_without_sockets_a_grant_leads_nowhere(tmp_path: Path, folder: Path) -> None:
    async def scenario(lab: Lab) -> None:
        service = await lab.socket_origin(folder / "a.sock")

        def take_away(_: http.HTTPFlow) -> None:
            lab.policy.sockets = None

        lab.add(Other("request", take_away))
        answer = await ask(lab, folder / "a.sock")
        assert (answer.status, answer.body) == FAILED
        assert not service.connections

    on_mac(scenario, tmp_path, folder)
