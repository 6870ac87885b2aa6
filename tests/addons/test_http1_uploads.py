"""Bodies of requests in HTTP/1: read, refused, announced, broken off."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from codex_network_proxy.addons.blocked import DISCARD_LIMIT

from .engine_kit import HOOKED, Lab, OriginPeer, Peer, play
from .http1_requests import HOST, get, post

SMALL, LARGE = 200_000, 64 << 20


@pytest.mark.parametrize("inner", [False, True], ids=["plain", "inner"])
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "in chunks"])
def test_a_refused_upload_is_answered_at_once_and_the_connection_goes_on(
    inner: bool, chunked: bool, tmp_path: Path
) -> None:
    """F13: a 403 in the middle of a small upload is delivered, and the next request works."""

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(tls=[HOOKED] if inner else None)
        client = await lab.tunnel(origin.port) if inner else await lab.client()
        good = b"GET /ok HTTP/1.1\r\n" + HOST % origin.port + b"\r\n" if inner else get(origin.port)
        size = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % SMALL
        if inner:
            request = b"POST /no HTTP/1.1\r\n" + HOST % origin.port + size + b"\r\n\r\n"
        else:
            request = post(origin.port, size, host=b"denied.test")
        answer = await client.ask(request)
        assert answer.status == 403, "before the body"
        assert answer.get("connection") == ("close" if chunked else None)
        await client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (SMALL, bytes(SMALL)) if chunked else bytes(SMALL))
        if chunked:
            assert await client.closed(), "who cannot say how much comes may not stay"
        else:
            assert (await client.ask(good)).status == 200
        assert len(origin.requests) == (0 if chunked else 1)

    play(scenario, tmp_path)


async def sent_before_the_cut(client: Peer) -> int:
    sent = 0
    with suppress(ConnectionError):
        while sent < LARGE:
            client.writer.write(bytes(1 << 16))
            await client.writer.drain()
            sent += 1 << 16
    return sent


def test_a_large_refused_upload_is_read_to_a_limit(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        client = await lab.client()
        answer = await client.ask(post(1, b"content-length: %d" % LARGE, host=b"denied.test"))
        assert (answer.status, answer.get("connection")) == (403, "close")
        assert DISCARD_LIMIT <= await sent_before_the_cut(client) < LARGE

    play(scenario, tmp_path)


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "refused"])
def test_only_an_allowed_client_is_told_to_go_on(allowed: bool, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        host = b"allowed.test" if allowed else b"denied.test"
        await client.send(post(origin.port, b"expect: 100-continue", b"content-length: 5", host=host))
        first = await client.head()
        assert first.startswith(b"HTTP/1.1 100 " if allowed else b"HTTP/1.1 403 ")
        if allowed:
            assert (await client.ask(b"hello")).status == 200
            assert origin.requests[0].body == b"hello"
            assert origin.requests[0].values(b"expect") == []

    play(scenario, tmp_path)


@pytest.mark.parametrize("expectation", [b"200-ok", b"100-continue, more", b""])
def test_an_expectation_that_nobody_knows_is_no_block(expectation: bytes, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        request = post(origin.port, b"expect: " + expectation, b"content-length: 5", body=b"hello")
        assert (await client.ask(request)).status == 200, "it asks for nothing that is done here"
        assert origin.requests[0].values(b"expect") == []

    play(scenario, tmp_path)


def test_an_interim_answer_means_nothing_to_http10(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        request = post(origin.port, b"expect: 100-continue", b"content-length: 5", body=b"hello")
        assert (await client.ask(request.replace(b"HTTP/1.1", b"HTTP/1.0"))).status == 200

    play(scenario, tmp_path)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"5\r\nhello\r\n0\r\n\r\n", 200, id="good chunks"),
        pytest.param(b"zz\r\n", 400, id="bad chunks"),
        pytest.param(b"FFFFFFFFFFFFFFFFF\r\n", 400, id="a chunk that is too large"),
    ],
)
def test_a_body_that_cannot_be_read_ends_the_exchange(body: bytes, status: int, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        answer = await client.ask(post(origin.port, b"transfer-encoding: chunked", body=body))
        assert answer.status == status
        if status == 400:
            assert answer.body == b"malformed message body"
            assert await client.closed()
            assert [one.body for one in origin.requests] in ([], [b""]), "nothing whole has arrived"

    play(scenario, tmp_path)


def test_an_upload_that_breaks_off_breaks_off_for_the_origin(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def waiting(peer: OriginPeer) -> None:
        await peer.head()
        assert await peer.reader.read() == b"only a part"
        ended.set()

    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(waiting), await lab.client()
        await client.send(post(origin.port, b"content-length: 1000", body=b"only a part"))
        while not origin.peers:
            await lab.master.event_loop.run_in_executor(None, lambda: None)
        client.close()
        await ended.wait()

    play(scenario, tmp_path)
