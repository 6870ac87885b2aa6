"""The last look before anything is sent, whatever other addons do; early answers; secrets on the wire alone (J08)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from mitmproxy import exceptions, http
from mitmproxy.addons.clientplayback import ClientPlayback
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.layers import http as engine_http

from codex_network_proxy.addons import http_streams

from .engine_kit import HOOKED, SECRET, Answer, Lab, Origin, play
from .h2_kit import get as h2_get
from .h2_kit import http2
from .http1_requests import HOST, get, post
from .other_addons import Other

ORDER = ("codex-settings", None)
"""Before all of ours, and behind the guard."""


def set_host(flow: http.HTTPFlow) -> None:
    flow.request.host = "other.test"


def set_data_host(flow: http.HTTPFlow) -> None:
    flow.request.data.host = "other.test"


def set_port(flow: http.HTTPFlow) -> None:
    flow.request.port = 1


def set_method(flow: http.HTTPFlow) -> None:
    flow.request.method = "DELETE"


def set_path(flow: http.HTTPFlow) -> None:
    flow.request.path = "/evil"


def set_scheme(flow: http.HTTPFlow) -> None:
    flow.request.scheme = "https" if flow.request.scheme == "http" else "http"


def add_field(flow: http.HTTPFlow) -> None:
    flow.request.headers["x-added"] = "1"


def set_framing(flow: http.HTTPFlow) -> None:
    flow.request.headers["content-length"] = "100"


def set_via(flow: http.HTTPFlow) -> None:
    flow.server_conn.via = ("http", ("other.test", 1))


EDITS = [set_host, set_data_host, set_port, set_method, set_path, set_scheme, add_field, set_framing]


async def ask(lab: Lab, origin: Origin, door: str, extra: bytes = b"") -> Answer:
    """One good request through this door."""
    if door == "plain":
        return await (await lab.client()).ask(get(origin.port, b"/ok", b"allowed.test", *extra.split(b"\r\n")[:-1]))
    client = await lab.tunnel(origin.port)
    return await client.ask(b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + extra + b"\r\n")


def refused(answer: Answer) -> bool:
    return (answer.status, answer.get("x-proxy-error")) == (403, "blocked-by-policy")


DOORS = pytest.mark.parametrize("door", ["plain", "inner"])


async def origin_for(lab: Lab, door: str) -> Origin:
    return await lab.origin(tls=None if door == "plain" else [HOOKED])


@DOORS
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_a_request_that_another_addon_changed_is_not_sent(
    edit: Callable[[http.HTTPFlow], None], hook: str, door: str, tmp_path: Path
) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await origin_for(lab, door)
        lab.add(Other(hook, edit))
        assert refused(await ask(lab, origin, door))
        assert not origin.connections, "nothing was even dialled"

    play(scenario, tmp_path)


@DOORS
@pytest.mark.parametrize("edit", [set_path, set_method, add_field])
def test_nor_one_that_was_changed_while_the_dial_lasted(
    edit: Callable[[http.HTTPFlow], None], door: str, tmp_path: Path
) -> None:
    async def scenario(lab: Lab) -> None:
        flows: list[http.HTTPFlow] = []
        lab.add(Other("requestheaders", flows.append))

        def change(data: server_hooks.ServerConnectionHookData) -> None:
            edit(flows[0])

        late = Other("server_connected", change)
        late.name = "late"
        lab.add(late)
        origin = await origin_for(lab, door)
        assert refused(await ask(lab, origin, door))
        assert not origin.requests

    play(scenario, tmp_path)


@DOORS
def test_a_proxy_that_another_addon_put_in_between_is_not_dialled(door: str, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await origin_for(lab, door)
        lab.add(Other("requestheaders", set_via))
        answer = await ask(lab, origin, door)
        assert answer.status == 502
        assert not origin.connections

    play(scenario, tmp_path)


def raise_error(_: object) -> None:
    raise RuntimeError("canary words")


def halt(_: object) -> None:
    raise exceptions.AddonHalt


@DOORS
@pytest.mark.parametrize("before", ORDER, ids=["before ours", "behind ours"])
@pytest.mark.parametrize("hook", ["requestheaders", "request", "server_connect", "http_connect", "next_layer"])
def test_an_addon_that_raises_changes_nothing(hook: str, before: str | None, door: str, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await origin_for(lab, door)
        lab.add(Other(hook, raise_error), before)
        assert (await ask(lab, origin, door)).status == 200
        denied = await (await lab.client()).ask(get(origin.port, b"/", b"denied.test"))
        assert denied.status == 403

    play(scenario, tmp_path)


@pytest.mark.parametrize("door", ["plain", "inner h1", "inner h2"])
def test_an_addon_that_halts_the_chain_halts_the_request(door: str, tmp_path: Path) -> None:
    """`AddonHalt` keeps every later addon from its hook, the guard too."""

    async def scenario(lab: Lab) -> None:
        origin = await origin_for(lab, "plain" if door == "plain" else "inner")
        lab.add(Other("requestheaders", halt), "codex-settings")
        if door == "inner h2":
            stream = await (await http2(lab, origin.port)).ask(h2_get(origin.port, method=b"POST"), b"body")
            assert (stream.status, stream.get(b"x-proxy-error")) == (403, b"blocked-by-policy")
        else:
            assert refused(await ask(lab, origin, door.partition(" ")[0]))
        assert not origin.connections

    play(scenario, tmp_path)


def test_a_halt_before_a_tunnel_is_a_deny(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        lab.add(Other("http_connect", halt), "codex-settings")
        target = b"allowed.test:%d" % origin.port
        answer = await (await lab.client()).ask(
            b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (target, target), "CONNECT"
        )
        assert refused(answer)
        assert not origin.connections

    play(scenario, tmp_path, fast_path=False)


@pytest.mark.parametrize("edit", [set_host, set_port])
def test_a_tunnel_that_another_addon_turned_elsewhere_leads_nowhere(
    edit: Callable[[http.HTTPFlow], None], tmp_path: Path
) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        lab.add(Other("http_connect", edit))
        target = b"allowed.test:%d" % origin.port
        answer = await (await lab.client()).ask(
            b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (target, target), "CONNECT"
        )
        assert refused(answer)
        assert not origin.connections

    play(scenario, tmp_path, fast_path=False)


def test_an_answer_of_another_addon_is_given_at_once(tmp_path: Path) -> None:
    def own_answer(flow: http.HTTPFlow) -> None:
        flow.response = http.Response.make(418, b"teapot")

    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        lab.add(Other("requestheaders", own_answer), "codex-settings")
        answer = await client.ask(post(origin.port, b"content-length: 100000"))
        assert (answer.status, answer.body) == (418, b"teapot")
        assert not origin.connections

    play(scenario, tmp_path)


def test_a_hook_that_hangs_holds_its_own_request_only(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def hang(flow: http.HTTPFlow) -> None:
        if flow.request.path == "/hang":
            await gate.wait()

    async def scenario(lab: Lab) -> None:
        origin, held = await lab.origin(), await lab.client()
        lab.add(Other("requestheaders", hang), "codex-settings")
        await held.send(get(origin.port, b"/hang"))
        assert (await (await lab.client()).ask(get(origin.port))).status == 200
        assert len(origin.requests) == 1
        gate.set()
        assert (await held.answer()).status == 200

    play(scenario, tmp_path)


@pytest.mark.parametrize("broken", ["codex-headers", "codex-allowlist", "codex-limited-mode", "codex-mitm-hooks",
                                    "codex-approval"])  # fmt: skip
def test_a_rule_of_ours_that_is_gone_or_broken(broken: str, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await origin_for(lab, "inner")
        addon = lab.master.addons.get(broken)
        addon.requestheaders = raise_error
        answer = await ask(lab, origin, "inner")
        assert refused(answer) or broken not in ("codex-allowlist", "codex-approval")
        if not refused(answer):
            assert origin.requests[0].values(b"authorization") == [f"Bearer {SECRET}".encode()]

    play(scenario, tmp_path)


def test_an_unloaded_script_closes_everything(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        assert (await client.ask(get(origin.port))).status == 200
        for addon in [one for one in lab.master.addons.chain if str(getattr(one, "name", "")).startswith("codex-")]:
            if addon.name not in ("codex-guard", "codex-front-door", "codex-settings"):
                lab.master.addons.remove(addon)
        assert refused(await client.ask(get(origin.port)))
        assert len(origin.requests) == 1

    play(scenario, tmp_path)


def test_a_replay_is_refused(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(tls=[HOOKED])
        flows: list[http.HTTPFlow] = []
        lab.add(Other("response", flows.append))
        client = await lab.tunnel(origin.port)
        request = b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + b"\r\n"
        assert (await client.ask(request)).status == 200
        playback = ClientPlayback()
        lab.master.addons.add(playback)
        playback.running()
        copy = flows[0].copy()
        copy.client_conn = flows[0].client_conn
        copy.request.data.content = b""
        playback.start_replay([copy])
        await playback.queue.join()
        assert copy.response
        assert copy.response.headers["x-proxy-error"] == "blocked-by-policy"
        assert len(origin.requests) == 1
        assert playback.playback_task
        playback.playback_task.cancel()

    play(scenario, tmp_path)


def test_the_engine_knows_only_our_classes() -> None:
    http_streams.install()
    assert engine_http.HttpStream is http_streams.PolicedHttpStream
    for name in ("Http1Server", "Http1Client", "Http2Server", "Http2Client"):
        assert getattr(engine_http, name).__name__ == f"Policed{name}"
