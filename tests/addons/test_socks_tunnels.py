"""SOCKS5 tunnels that the engine serves: intercepted ones, and every one without the fast path."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.proxy import events as engine_events

from codex_network_proxy.addons import connection, judged_tunnels
from codex_network_proxy.policy.decision import Allowed, Blocked
from codex_network_proxy.socks.dialler import DialError, DialFailure, dial

from .engine_kit import HOOKED, SECRET, Lab, OriginPeer, configuration, play
from .h2_kit import Http2Peer
from .h2_kit import get as h2_get
from .other_addons import Other

FAST = pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "engine only"])


def get(path: str, port: int) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: {HOOKED}:{port}\r\n\r\n".encode()


def events(lab: Lab) -> list[dict[str, Any]]:
    """What was audited; the log is complete when the laboratory has closed."""
    return [json.loads(line) for line in (lab.runtime.home / "log" / "network-proxy.jsonl").read_text().splitlines()]


@FAST
def test_a_hooked_host_is_intercepted_as_over_connect(fast_path: bool, tmp_path: Path) -> None:
    labs: list[Lab] = []

    async def scenario(lab: Lab) -> None:
        labs.append(lab)
        origin = await lab.origin(tls=[HOOKED])
        client = await lab.socks_tunnel(origin.port)
        answer = await client.ask(get("/ok", origin.port))
        assert (answer.status, answer.body) == (200, b"fine")
        assert origin.requests[0].values(b"authorization") == [f"Bearer {SECRET}".encode()]
        refused = await client.ask(get("/no", origin.port))
        assert (refused.status, refused.get("x-proxy-error")) == (403, "blocked-by-mitm-hook")
        assert len(origin.requests) == 1

    play(scenario, tmp_path, fast_path=fast_path)
    found = [(e["network.transport.protocol"], e["http.request.method"], e["network.policy.decision"])
             for e in events(labs[0])]  # fmt: skip
    assert found == [
        ("socks5_tcp", "none", "allow"),
        ("https_connect", "GET", "allow"),
        ("https_connect", "GET", "allow"),
        ("https_connect", "GET", "allow"),
        ("https_connect", "GET", "deny"),
    ]


def test_http2_works_inside(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(tls=[HOOKED])
        client = Http2Peer(await lab.socks_tunnel(origin.port, alpn=["h2"]), client=True)
        await client.begin()
        assert (await client.ask(h2_get(origin.port))).status == 200

    play(scenario, tmp_path)


@pytest.mark.parametrize("ahead", [1, 100, 100_000], ids=["a byte", "a part", "all"])
def test_tls_that_came_with_the_request_is_not_lost(ahead: int, tmp_path: Path) -> None:
    """The reply comes before anything of TLS does, also when the client does not wait for it."""

    async def scenario(lab: Lab) -> None:
        received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = lab.trust().wrap_bio(received, sent, server_hostname=HOOKED)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = sent.read()
        peer, code = await lab.ask_socks(443, early=hello[:ahead])
        assert code == 0
        await peer.send(hello[ahead:])
        while tls.version() is None:
            received.write(await peer.reader.read(1 << 16))
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
        assert tls.getpeercert()

    play(scenario, tmp_path)


def test_bytes_that_are_not_tls_are_cut(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        peer, code = await lab.ask_socks(origin.port)
        assert code == 0
        await peer.send(get("/ok", origin.port))
        assert await peer.closed()
        assert not origin.connections

    play(scenario, tmp_path)


def test_tls_has_to_begin_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged_tunnels, "TLS_DEADLINE", 0.01)

    async def scenario(lab: Lab) -> None:
        peer, code = await lab.ask_socks(443)
        assert code == 0
        assert await peer.closed()

    play(scenario, tmp_path)


def test_an_established_tunnel_is_not_cut_by_that_deadline(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(tls=[HOOKED])
        client = await lab.socks_tunnel(origin.port)
        assert (await client.ask(get("/ok", origin.port))).status == 200
        (handler,) = lab.master.addons.get("proxyserver").connections.values()
        await handler.server_event(engine_events.Wakeup(handler.layer._timer))
        assert (await client.ask(get("/ok", origin.port))).status == 200

    play(scenario, tmp_path)


@FAST
def test_an_open_tunnel_is_cut_when_the_policy_changes(fast_path: bool, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(tls=[HOOKED])
        hooked = await lab.socks_tunnel(origin.port)
        relayed, code = await lab.ask_socks(origin.port, "allowed.test")
        assert code == 0
        kept, code = await lab.ask_socks(origin.port, "other.test")
        assert code == 0
        lab.reload(configuration(lines=['denied_domains = ["hooked.test", "allowed.test"]']))
        assert await hooked.closed()
        assert await relayed.closed()
        kept.writer.write_eof()

    play(scenario, tmp_path, fast_path=fast_path)


def test_a_policy_that_changed_during_the_hand_over_counts(tmp_path: Path) -> None:
    """Between the door's decision and the engine's first step nothing of the tunnel exists that could be cut."""

    async def scenario(lab: Lab) -> None:
        def tighten(_: object) -> None:
            lab.reload(configuration(lines=['denied_domains = ["hooked.test"]']))

        labs.append(lab)
        lab.add(Other("client_connected", tighten))
        peer, code = await lab.ask_socks(443)
        assert code == 2
        assert await peer.closed()

    labs: list[Lab] = []
    play(scenario, tmp_path)
    found = [(e["network.policy.decision"], e["network.policy.reason"]) for e in events(labs[0])]
    assert found == [("allow", "allow"), ("deny", "policy_denied")]


# -- without the fast path -------------------------------------------------------------------------------------------


async def echo(peer: OriginPeer) -> None:
    while data := await peer.reader.read(1 << 16):
        await peer.send(data)


def test_a_relayed_tunnel_carries_bytes_and_half_closes(tmp_path: Path) -> None:
    async def patient(peer: OriginPeer) -> None:
        assert await peer.reader.read() == b"early, and all of it"
        await peer.send(b"thanks")

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(patient)
        client, code = await lab.ask_socks(origin.port, "allowed.test", early=b"early, ")
        assert code == 0
        await client.send(b"and all of it")
        client.writer.write_eof()
        assert await client.reader.read() == b"thanks"
        assert not origin.errors

    play(scenario, tmp_path, fast_path=False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DialError(DialFailure.NETWORK_UNREACHABLE), 3),
        (DialError(DialFailure.HOST_UNREACHABLE), 4),
        (DialError(DialFailure.REFUSED), 5),
        (DialError(DialFailure.TIMED_OUT), 6),
        (ValueError("an odd one with canary words"), 1),
    ],
)
def test_each_dial_that_fails_has_its_code(
    error: Exception, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(addresses: object, port: int) -> Any:
        raise error

    monkeypatch.setattr(connection, "dial", failing)

    async def scenario(lab: Lab) -> None:
        peer, told = await lab.ask_socks(1, "allowed.test", early=bytes(100_000))
        assert told == code
        assert await peer.closed()

    with caplog.at_level(logging.INFO):
        play(scenario, tmp_path, fast_path=False)
    assert "upstream request failed: upstream failure: " in caplog.text
    assert "canary" not in caplog.text


def test_another_addon_may_refuse_a_dial(tmp_path: Path) -> None:
    def refuse(data: Any) -> None:
        data.server.error = "no canary today"

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        lab.add(Other("server_connect", refuse))
        peer, code = await lab.ask_socks(origin.port, "allowed.test")
        assert code == 1
        assert await peer.closed()
        assert not origin.connections

    play(scenario, tmp_path, fast_path=False)


def test_a_refused_client_that_stays_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged_tunnels, "LINGER", 0.01)

    async def scenario(lab: Lab) -> None:
        lab.add(Other("client_connected", lambda _: lab.reload(configuration(lines=["allowed_domains = []"]))))
        _, code = await lab.ask_socks(443, "allowed.test")
        assert code == 2
        door = lab.runtime.door
        assert door
        while door.taken:
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)

    play(scenario, tmp_path, fast_path=False)


def test_a_client_waits_while_the_dial_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sends meanwhile stays where it is, not in this process."""
    dialling, go_on = asyncio.Event(), asyncio.Event()

    async def slow(addresses: Any, port: int) -> Any:
        dialling.set()
        await go_on.wait()
        return await dial(addresses, port)

    monkeypatch.setattr(connection, "dial", slow)
    size = 8 << 20

    async def count(peer: OriginPeer) -> None:
        await peer.send(b"%d" % len(await peer.reader.read()))

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(count)
        asked = asyncio.ensure_future(lab.ask_socks(origin.port, "allowed.test", early=bytes(size)))
        await dialling.wait()
        (handler,) = lab.master.addons.get("proxyserver").connections.values()
        piled = sum(len(one.data) for one in handler.layer._paused_event_queue if hasattr(one, "data"))
        assert piled < 1 << 20
        go_on.set()
        client, code = await asked
        assert code == 0
        client.writer.write_eof()
        assert await client.reader.read() == b"%d" % size

    play(scenario, tmp_path, fast_path=False)


def test_what_is_allowed_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labs: list[Lab] = []

    async def scenario(lab: Lab) -> None:
        labs.append(lab)
        origin = await lab.origin(echo)
        client, code = await lab.ask_socks(origin.port, "allowed.test")
        assert code == 0
        await client.send(b"x")
        assert await client.reader.readexactly(1) == b"x"
        for host, kind in (("allowed.test", Allowed), ("denied.test", Blocked)):
            _, code = await lab.ask_socks(origin.port, host)
            assert (code == 0) is (kind is Allowed)

    play(scenario, tmp_path, fast_path=False)
    assert [event["network.policy.decision"] for event in events(labs[0])] == ["allow", "allow", "deny"]
