"""Answers of origins that speak HTTP/2: a bad one costs its own stream, not the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from .engine_kit import HOOKED, Lab, OriginPeer, play, reply, saying
from .h2_kit import ErrorCodes, Http2Peer, fine, get, http2, http2_origin


async def bad_status(side: Http2Peer, number: int) -> None:
    side.h2.send_headers(number, [(b":status", b"099")], end_stream=True)


async def connection_field(side: Http2Peer, number: int) -> None:
    side.h2.send_headers(number, [(b":status", b"200"), (b"connection", b"close")], end_stream=True)


async def line_break(side: Http2Peer, number: int) -> None:
    side.h2.send_headers(number, [(b":status", b"200"), (b"x", b"a\r\nset-cookie: b")], end_stream=True)


async def control_byte(side: Http2Peer, number: int) -> None:
    side.h2.send_headers(number, [(b":status", b"200"), (b"x", b"a\x1b[31m")], end_stream=True)


async def reset(side: Http2Peer, number: int) -> None:
    side.h2.reset_stream(number, ErrorCodes.REFUSED_STREAM)


async def goodbye(side: Http2Peer, number: int) -> None:
    side.h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("respond", [bad_status, connection_field, line_break, control_byte, reset, goodbye])
def test_a_bad_answer_of_an_http2_origin(respond: object, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(http2_origin(respond), tls=[HOOKED], alpn=["h2"])  # type: ignore[arg-type]  # a row
        client = await http2(lab, origin.port)
        for _ in range(2):
            stream = await client.ask(get(origin.port))
            assert stream.status == 502
            assert stream.text.startswith("upstream failure: ")
            assert stream.text.isprintable()

    play(scenario, tmp_path)


def test_one_bad_answer_does_not_end_the_origins_other_streams(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def some(side: Http2Peer, number: int) -> None:
        if dict(side.streams[number].fields)[b":path"] == b"/ok/bad":
            await bad_status(side, number)
            gate.set()
        else:
            await fine(side, number)

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(http2_origin(some), tls=[HOOKED], alpn=["h2"])
        client = await http2(lab, origin.port)
        assert (await client.ask(get(origin.port, b"/ok/first"))).status == 200
        assert (await client.ask(get(origin.port, b"/ok/bad"))).status == 502
        assert (await client.ask(get(origin.port, b"/ok/last"))).status == 200
        assert origin.connections == 1

    play(scenario, tmp_path)


def test_an_origin_that_was_down_is_tried_again(tmp_path: Path) -> None:
    """The engine would answer with its first error for as long as the client's connection lasts."""

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(saying(), tls=[HOOKED])
        client = await http2(lab, origin.port)
        assert (await client.ask(get(origin.port))).status == 502
        origin.handler = answering
        assert (await client.ask(get(origin.port))).status == 200

    async def answering(peer: OriginPeer) -> None:
        await peer.request()
        await peer.send(reply())

    play(scenario, tmp_path)
