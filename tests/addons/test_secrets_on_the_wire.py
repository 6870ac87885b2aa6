"""Secrets are on the wire to a verified origin, and nowhere else: not shown, not saved, not logged (J08)."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from mitmproxy import http, io
from mitmproxy.addons.savehar import SaveHar

from codex_network_proxy.addons import http_streams

from .engine_kit import HOOKED, SECRET, Lab, OriginPeer, Peer, play, reply
from .h2_kit import get as h2_get
from .h2_kit import http2, http2_origin
from .http1_requests import HOST
from .other_addons import Other
from .test_http_streams import ask, origin_for, refused


async def chatty(peer: OriginPeer) -> None:
    """Speaks first, and no TLS."""
    await peer.send(b"220 mail.test ESMTP\r\n")
    await peer.reader.read()


async def echo(peer: OriginPeer) -> None:
    """Answers with nothing of what it got."""
    while True:
        await peer.request()
        await peer.send(reply(b"thanks"))


@pytest.mark.parametrize("version", ["http/1.1", "h2"])
def test_a_secret_is_on_the_wire_and_nowhere_else(
    version: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved, har = tmp_path / "flows", tmp_path / "flows.har"

    async def scenario(lab: Lab) -> None:
        view = lab.show()
        handler = http2_origin() if version == "h2" else echo
        origin = await lab.origin(handler, tls=[HOOKED], alpn=[version])
        states: list[str] = []
        for hook in ("requestheaders", "request", "responseheaders", "response", "server_connected"):
            addon = Other(hook, lambda one: states.append(repr(getattr(one, "get_state", lambda: vars(one))())))
            addon.name = f"watch-{hook}"
            lab.add(addon)
        if version == "h2":
            assert (await (await http2(lab, origin.port)).ask(h2_get(origin.port))).status == 200
        else:
            assert (await ask(lab, origin, "inner", b"Authorization: Basic mine\r\n")).status == 200
        assert SECRET.encode() in origin.requests[0].head
        assert states
        assert not any(SECRET in state or "mine" in state for state in states)
        (shown,) = [one for one in view if isinstance(one, http.HTTPFlow) and one.request.method != "CONNECT"]
        assert shown.comment.startswith("mitm_hooks[0] matched")
        with saved.open("wb") as file:
            io.FlowWriter(file).add(shown)
        har.write_text(json.dumps(SaveHar().make_har([shown])))

    with caplog.at_level(logging.DEBUG):
        play(scenario, tmp_path)
    assert SECRET not in caplog.text
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("fault", ["secret", "wire"])
def test_a_crash_shows_no_secret(fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture,
                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    def crash(*arguments: object) -> None:
        raise RuntimeError(f"crashed with {arguments!r}")

    name = {"secret": "secret_edits", "wire": "with_secrets"}[fault]
    monkeypatch.setattr(http_streams, name, crash)

    async def scenario(lab: Lab) -> None:
        origin = await origin_for(lab, "inner")
        client: Peer = await lab.tunnel(origin.port)
        await client.send(b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + b"\r\n")
        await client.reader.read()
        assert not origin.requests

    with caplog.at_level(logging.DEBUG):
        play(scenario, tmp_path)
    assert "crashed" in caplog.text
    assert SECRET not in caplog.text


def test_a_secret_that_is_gone_stops_the_request_before_its_head(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await origin_for(lab, "inner")
        lab.runtime.secrets._environ = {}
        assert refused(await ask(lab, origin, "inner"))
        assert not origin.requests

    play(scenario, tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        pytest.param(["evil.test"], "(hostname mismatch)", id="another name"),
        pytest.param(["expired"], "(certificate has expired)", id="expired"),
        pytest.param([], "the TLS handshake with the origin failed", id="no TLS at all"),
    ],
)
@pytest.mark.parametrize("version", [1, 2], ids=["h1", "h2"])
def test_an_origin_that_cannot_prove_its_name_gets_nothing(
    names: list[str], words: str, version: int, tmp_path: Path
) -> None:
    async def scenario(lab: Lab) -> None:
        if names == ["expired"]:
            context = lab.authority.server_context(HOOKED, expired=True)
            origin = await lab.origin_with(echo, context)
        elif names:
            origin = await lab.origin(echo, tls=names)
        else:
            origin = await lab.origin(chatty)
        if version == 2:
            stream = await (await http2(lab, origin.port)).ask(h2_get(origin.port))
            status, said = stream.status, stream.text
        else:
            answer = await ask(lab, origin, "inner")
            status, said = answer.status, answer.body.decode()
        assert status == 502
        assert said.startswith("upstream failure: ")
        assert words in said
        assert not origin.requests

    play(scenario, tmp_path)
