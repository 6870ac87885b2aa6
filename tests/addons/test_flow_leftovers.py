"""What is remembered of a request while it lasts, and that nothing of it is kept afterwards."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from mitmproxy import http

from codex_network_proxy.addons import http_tunnels, judged_tunnels
from codex_network_proxy.addons.sessions import session_of

from .engine_kit import HOOKED, Lab, play
from .h2_kit import get as h2_get
from .h2_kit import http2
from .http1_requests import get, post
from .other_addons import Other
from .test_http_streams import ask, origin_for


def test_nothing_of_a_flow_outlives_it(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        flows: list[http.HTTPFlow] = []
        lab.add(Other("response", flows.append))
        for request in (
            get(origin.port),
            get(1, b"/", b"denied.test"),
            post(origin.port, b"content-length: 1", body=b"x"),
        ):
            await client.ask(request)
        session = session_of(flows[0].client_conn.id)
        assert session
        left = [*session.approvals, *session.candidates, *session.bodies, *session.grants]
        assert left == []
        assert len(session.dialled) == 1, "but the connection that is kept alive"

    play(scenario, tmp_path)


def test_streams_that_were_killed_are_forgotten(tmp_path: Path) -> None:
    def kill(one: http.HTTPFlow) -> None:
        one.kill()

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(tls=[HOOKED])
        clients: list[str] = []
        lab.add(Other("requestheaders", lambda one: clients.append(one.client_conn.id)))
        other = Other("requestheaders", kill)
        other.name = "killer"
        lab.add(other)
        client = await http2(lab, origin.port)
        for _ in range(3):
            assert (await client.ask(h2_get(origin.port))).reset is not None
        session = session_of(clients[0])
        assert session
        assert not session.approvals

    play(scenario, tmp_path)


WAYS = pytest.mark.parametrize(
    ("module", "fast_path"),
    [pytest.param(judged_tunnels, True, id="judged by the door"), pytest.param(http_tunnels, False, id="engine only")],
)


@WAYS
def test_an_interrupted_tls_handshake_is_over_after_its_time(
    module: ModuleType, fast_path: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "TLS_DEADLINE", 0.01)

    async def scenario(lab: Lab) -> None:
        client = await lab.connect(443)
        await client.send(b"\x16\x03\x01")
        assert await client.closed()
        silent = await lab.connect(443)
        assert await silent.closed()

    play(scenario, tmp_path, fast_path=fast_path)


@WAYS
def test_an_established_tunnel_is_not_cut_by_its_timer(
    module: ModuleType, fast_path: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "TLS_DEADLINE", 0.0)

    async def scenario(lab: Lab) -> None:
        origin = await origin_for(lab, "inner")
        monkeypatch.setattr(module, "TLS_DEADLINE", 5.0)
        assert (await ask(lab, origin, "inner")).status == 200

    play(scenario, tmp_path, fast_path=fast_path)


def test_errors_of_a_flow_are_not_kept_beside_our_own_answer(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        flows: list[http.HTTPFlow] = []
        lab.add(Other("response", flows.append))
        client = await lab.client()
        await client.ask(post(1, b"content-length: 1000", host=b"denied.test"))
        client.close()
        while session_of(flows[0].client_conn.id):
            await lab.master.event_loop.run_in_executor(None, lambda: None)
        assert flows[0].error is None

    play(scenario, tmp_path)
