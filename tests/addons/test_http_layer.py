"""What has ended is forgotten: a client that stays for long costs no more than one that has just come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codex_network_proxy.addons.http_layer import PolicedHttpLayer

from .engine_kit import HOOKED, Lab, play, reply, saying
from .h2_kit import get as h2_get
from .h2_kit import http2
from .http1_requests import get


def connections(layers: list[Any]) -> int:
    return max(len(layer.connections) for layer in layers if isinstance(layer, PolicedHttpLayer))


def watched(lab: Lab) -> list[Any]:
    """The layers of every connection from now on."""
    seen: list[Any] = []

    class Watch:
        name = "watch"

        def next_layer(self, data: Any) -> None:
            seen.append(data.layer)

    lab.add(Watch())
    return seen


def test_connections_that_ended(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        layers = watched(lab)
        origin, client = await lab.origin(saying(reply(b"one", "connection: close"))), await lab.client()
        for _ in range(20):
            assert (await client.ask(get(origin.port))).status == 200
        assert origin.connections == 20
        assert connections(layers) <= 4

    play(scenario, tmp_path)


def test_connections_of_many_streams(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        layers = watched(lab)
        origin = await lab.origin(tls=[HOOKED])
        client = await http2(lab, origin.port)
        for _ in range(20):
            assert (await client.ask(h2_get(origin.port))).status == 200
        assert connections(layers) <= 4

    play(scenario, tmp_path)


def test_dials_that_failed(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        layers = watched(lab)
        client = await http2(lab, 1)
        for _ in range(20):
            assert (await client.ask(h2_get(1))).status == 502
        assert connections(layers) <= 4

    play(scenario, tmp_path)


def test_streams_that_ended(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        layers = watched(lab)
        origin = await lab.origin(tls=[HOOKED])
        client = await http2(lab, origin.port)
        for path in (b"/ok", b"/evil", b"/ok"):
            await client.ask(h2_get(origin.port, path))
            await client.ask(h2_get(origin.port, path, method=b"POST"), b"body")
        denied = await lab.client()
        for _ in range(5):
            await denied.ask(get(1, b"/", b"denied.test"))
            await denied.ask(b"CONNECT denied.test:1 HTTP/1.1\r\n\r\n", "CONNECT")
        streams = [len(layer.streams) for layer in layers if isinstance(layer, PolicedHttpLayer)]
        assert sorted(streams) == [0, 0, 1], "but the one that is the tunnel"

    play(scenario, tmp_path, fast_path=False)
