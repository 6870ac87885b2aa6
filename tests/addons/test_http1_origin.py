"""HTTP/1 towards the origin: one answer for each request, none that is malformed, and no byte of it quoted (F10)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from codex_network_proxy.addons.http1_origin import INTERIM_LIMIT
from codex_network_proxy.addons.http_head import HEAD_LIMIT

from .engine_kit import HOOKED, SECRET, Lab, OriginPeer, play, reply, saying
from .h2_kit import get as h2_get
from .h2_kit import http2
from .http1_requests import HOST, get, post

NO_HTTP = "upstream failure: the origin sent no valid HTTP response"
ENDLESS = "upstream failure: the origin's response head is too large"
CLOSED = "upstream failure: the origin closed the connection"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"

BAD = [
    pytest.param(b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n",
                 "upstream failure: the origin answered with status 099", id="a status too small"),
    pytest.param(b"HTTP/1.1 abc canary\r\n\r\n", NO_HTTP, id="a status that is a word"),
    pytest.param(b"220 canary ESMTP\r\n\r\n", NO_HTTP, id="another protocol"),
    pytest.param(b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", NO_HTTP, id="another version"),
    pytest.param(b"HTTP/1.1 200 OK\r\ncanary\r\n\r\n", NO_HTTP, id="a line without a colon"),
    pytest.param(b"HTTP/1.1 200 OK\r\nx: canary\x00\r\n\r\n", NO_HTTP, id="a NUL in a value"),
    pytest.param(b"HTTP/1.1 200 OK\r\nx: a\rset-cookie: canary\r\n\r\n", NO_HTTP, id="a bare carriage return"),
    pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", NO_HTTP, id="two lengths"),
    pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", NO_HTTP,
                 id="a length and chunks"),
    pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: canary\r\n\r\n", NO_HTTP, id="a coding of its own"),
    pytest.param(b"HTTP/1.1 200 OK\r\nx-canary: " + b"a" * (HEAD_LIMIT + 1), ENDLESS, id="an endless line"),
    pytest.param(INTERIM * (INTERIM_LIMIT + 1), NO_HTTP, id="interim answers without an end"),
    pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: canary\r\nconnection: upgrade\r\n\r\nraw",
                 "upstream failure: the origin switched protocols unasked", id="a switch nobody asked for"),
    pytest.param(b"\r\nHTTP/1.1 200 OK\r\n\r\n", NO_HTTP, id="an empty line before it"),
    pytest.param(b"HTTP/1.1 200 canary", NO_HTTP, id="half a head"),
    pytest.param(b"", CLOSED, id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize("door", ["plain", "inner h1", "inner h2"])
@pytest.mark.parametrize(("raw", "words"), BAD)
def test_a_bad_answer_is_a_502(
    raw: bytes, words: str, door: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(saying(raw), tls=None if door == "plain" else [HOOKED])
        if door == "inner h2":
            stream = await (await http2(lab, origin.port)).ask(h2_get(origin.port))
            assert (stream.status, stream.text, stream.get(b"content-type")) == (502, words, b"text/plain")
            return
        client = await (lab.client() if door == "plain" else lab.tunnel(origin.port))
        plain, inner = get(origin.port), b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + b"\r\n"
        answer = await client.ask(plain if door == "plain" else inner)
        assert (answer.status, answer.body.decode()) == (502, words)
        assert (answer.get("content-type"), answer.get("connection")) == ("text/plain", "close")
        assert await client.closed()

    with caplog.at_level(logging.DEBUG):
        play(scenario, tmp_path)
    assert "canary" not in caplog.text.replace(SECRET, ""), "what an origin wrote is not for the log"
    assert "upstream request failed" in caplog.text


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(INTERIM * INTERIM_LIMIT + reply(), id="interim answers before it"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + reply(), id="100 Continue unasked"),
        pytest.param(b"HTTP/1.1 200 OK\nx: y\ncontent-length: 4\n\nfine", id="bare line feeds"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 4\r\n\r\nfine", id="a folded line"),
        pytest.param(reply(status="999 Request denied"), id="a status above all others"),
    ],
)
def test_what_origins_may_do(raw: bytes, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(saying(raw))
        answer = await (await lab.client()).ask(get(origin.port))
        assert (answer.status in (200, 999), answer.body) == (True, b"fine")
        assert answer.get("x") in (None, "y", "a b")

    play(scenario, tmp_path)


def test_an_answer_byte_by_byte(tmp_path: Path) -> None:
    async def slow(peer: OriginPeer) -> None:
        await peer.request()
        for byte in b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n":
            await peer.send(bytes((byte,)))

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(slow)
        assert (await (await lab.client()).ask(get(origin.port))).body == b"fine"

    play(scenario, tmp_path)


def test_a_second_answer_belongs_to_nobody(tmp_path: Path) -> None:
    """F10: it must not be taken for the answer to the next request."""

    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(saying(reply(b"one") + reply(b"evil"), reply(b"two"))), await lab.client()
        assert (await client.ask(get(origin.port))).body == b"one"
        assert (await client.ask(get(origin.port))).body == b"one"
        assert origin.connections == 2, "the connection is not used again"

    play(scenario, tmp_path)


def test_an_answer_that_nobody_asked_for_ends_the_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def eager(peer: OriginPeer) -> None:
        await peer.request()
        await peer.send(reply(b"one"))
        await peer.send(b"canary bytes")
        await peer.reader.read()

    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(eager), await lab.client()
        for _ in range(2):
            assert (await client.ask(get(origin.port))).body == b"one"
            await origin.tasks[-1]

    with caplog.at_level(logging.DEBUG):
        play(scenario, tmp_path)
    assert "canary" not in caplog.text


def test_connections_are_used_again(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        for _ in range(5):
            assert (await client.ask(get(origin.port))).status == 200
        assert origin.connections == 1

    play(scenario, tmp_path)


def test_an_answer_that_breaks_off_does_not_look_whole(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        for head in (b"content-length: 100", b"transfer-encoding: chunked"):
            origin = await lab.origin(saying(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n5\r\nhello\r\n"))
            client = await lab.client()
            await client.send(get(origin.port))
            received = await client.reader.read()
            assert received.startswith(b"HTTP/1.1 200 ")
            assert not received.endswith(b"0\r\n\r\n")

    play(scenario, tmp_path)


def test_an_answer_that_overtakes_its_request_arrives(tmp_path: Path) -> None:
    async def impatient(peer: OriginPeer) -> None:
        await peer.head()
        await peer.send(reply(b"too large", "connection: close", status="413 Content Too Large"))

    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(impatient), await lab.client()
        await client.send(post(origin.port, b"content-length: 1000000", body=bytes(1000)))
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b"too large")

    play(scenario, tmp_path)


def test_requests_to_different_origins_on_one_connection(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        one, two = await lab.origin(), await lab.origin()
        client = await lab.client()
        for origin, host in ((one, b"allowed.test"), (two, b"other.test"), (one, b"allowed.test")):
            assert (await client.ask(get(origin.port, b"/", host))).status == 200
        assert (one.connections, two.connections) == (1, 1)

    play(scenario, tmp_path)
