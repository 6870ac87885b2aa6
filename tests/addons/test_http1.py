"""HTTP/1 towards the client: what is read, what is answered, and when the connection ends (classes D, F, H)."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_network_proxy.addons.http_head import HEAD_LIMIT

from .engine_kit import HOOKED, Lab, OriginPeer, Peer, configuration, play, polite, saying
from .http1_requests import HOST, at, get, post, text

# Inside a tunnel

INSIDE = [
    pytest.param(b"CONNECT evil.test:443 HTTP/1.1\r\nhost: evil.test\r\n\r\n", 405, "CONNECT not supported inside MITM",
                 id="CONNECT"),
    pytest.param(b"TRACE /ok HTTP/1.1\r\n" + HOST + b"\r\n", 405, "TRACE is not supported", id="TRACE"),
    pytest.param(b"GET http://hooked.test:%d/ok HTTP/1.1\r\n" + HOST + b"\r\n", 400, "host mismatch", id="http"),
    pytest.param(b"GET https://evil.test/ok HTTP/1.1\r\nhost: evil.test\r\n\r\n", 400, "host mismatch",
                 id="another host in absolute form"),
    pytest.param(b"GET /ok HTTP/1.1\r\nhost: evil.test\r\n\r\n", 400, "host mismatch", id="another host"),
    pytest.param(b"GET /ok HTTP/1.1\r\nhost: hooked.test:1\r\n\r\n", 400, "host mismatch", id="another port"),
    pytest.param(b"GET /ok HTTP/1.1\r\nhost: hooked.test\r\n\r\n", 400, "host mismatch", id="the port left out"),
    pytest.param(b"GET /ok HTTP/1.1\r\n\r\n", 400, "missing host", id="no host"),
    pytest.param(b"GET /ok HTTP/1.1\r\n" + HOST + b"x-unix-socket: /s\r\n\r\n", 400, "invalid x-unix-socket header",
                 id="a unix socket"),
    pytest.param(b"GET /ok HTTP/1.1\nhost: x\n\n", 400, "malformed request head", id="bare line feeds"),
    pytest.param(b"EHLO mail.test\r\n\r\n", 400, "malformed request line", id="another protocol"),
    pytest.param(b"\x00\x01\x02", 400, "this port speaks HTTP/1.1 only", id="noise"),
    pytest.param(b"GET /%b HTTP/1.1\r\n" % (b"a" * HEAD_LIMIT), 431, "request head too large", id="an endless line"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "status", "words"), INSIDE)
def test_inside_a_tunnel(request_: bytes, status: int, words: str, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(tls=[HOOKED])
        client = await lab.tunnel(origin.port)
        answer = await client.ask(request_ % ((origin.port,) * request_.count(b"%d")))
        assert text(answer) == (status, words)
        assert answer.get("content-type") == "text/plain"
        assert answer.get("server") is None, "nothing names the engine"
        assert (answer.get("allow") is not None) is (status == 405)
        client.close()
        assert not origin.connections

    play(scenario, tmp_path)


def test_the_absolute_form_of_the_target_itself_goes_on_in_origin_form(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(tls=[HOOKED])
        client = await lab.tunnel(origin.port)
        target = at(origin.port, b"hooked.test")
        answer = await client.ask(b"GET https://HOOKED.test:%d/ok HTTP/1.1\r\nhost: %b\r\n\r\n" % (origin.port, target))
        assert answer.status == 200
        assert origin.requests[0].line == b"GET /ok HTTP/1.1"
        assert origin.requests[0].values(b"host") == [target]

    play(scenario, tmp_path)


# Heads


@pytest.mark.parametrize("lines", [0, 1])
def test_one_empty_line_before_a_request_is_tolerated(lines: int, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        for _ in range(2):
            assert (await client.ask(b"\r\n" * lines + get(origin.port))).status == 200

    play(scenario, tmp_path)


def test_two_are_not(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        assert (await client.ask(get(origin.port))).status == 200
        assert (await client.ask(b"\r\n\r\n" + get(origin.port))).status == 400
        assert await client.closed()

    play(scenario, tmp_path)


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\nx: y\r\n\r\n",
                     id="chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nonetwo", id="a body that ends with the connection"),
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 6\r\n\r\nonetwo", id="an origin of HTTP/1.0"),
        pytest.param(b"HTTP/1.1 103 Early\r\nx: 1\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nonetwo",
                     id="an interim answer"),
    ],
)  # fmt: skip
def test_every_client_can_tell_where_the_answer_ends(version: bytes, raw: bytes, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(saying(raw)), await lab.client()
        answer = await client.ask(get(origin.port).replace(b"HTTP/1.1", version))
        assert (answer.status, answer.body) == (200, b"onetwo")
        if version == b"HTTP/1.0":
            assert answer.get("transfer-encoding") is None, "it could not read chunks"
            assert await client.closed()
        else:
            assert (await client.ask(get(origin.port))).body == b"onetwo"

    play(scenario, tmp_path)


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
def test_an_answer_without_a_body_gets_none(method: bytes, raw: bytes, tmp_path: Path) -> None:
    """One byte too many would be read as the next answer."""

    async def answering(peer: OriginPeer) -> None:
        while True:
            await peer.request()
            await peer.send(raw)

    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(answering), await lab.client()
        for _ in range(2):
            answer = await client.ask(get(origin.port).replace(b"GET", method, 1), "HEAD")
            assert answer.status == int(raw[9:12])
        assert origin.connections == 1

    play(scenario, tmp_path)


# Refused uploads

# One request after another


def test_every_pipelined_request_is_judged(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        await client.send(get(origin.port, b"/1") + get(origin.port, b"/2", b"denied.test") + get(origin.port, b"/3"))
        assert [(await client.answer()).status for _ in range(3)] == [200, 403, 200]
        assert [one.line for one in origin.requests] == [b"GET /1 HTTP/1.1", b"GET /3 HTTP/1.1"]

    play(scenario, tmp_path)


def test_hundreds_of_pipelined_requests_are_answered_one_after_the_other(tmp_path: Path) -> None:
    """Each begins when the one before it is over, not inside it: or the stack would end."""

    async def scenario(lab: Lab) -> None:
        client = await lab.client()
        await client.send(get(1, host=b"denied.test") * 400)
        assert {(await client.answer()).status for _ in range(400)} == {403}

    play(scenario, tmp_path)


def test_bytes_behind_a_refused_head_are_not_read_as_a_request(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        answer = await client.ask(b"GET http://a b/ HTTP/1.1\r\n\r\n" + get(origin.port))
        assert answer.status == 400
        assert await client.closed()
        assert not origin.connections

    play(scenario, tmp_path)


@pytest.mark.parametrize("host", [b"allowed.test", b"hooked.test"], ids=["relayed", "inspected"])
def test_bytes_in_the_packet_of_a_connect(host: bytes, tmp_path: Path) -> None:
    """D08: kept where they are relayed, line breaks too, and cut where they must be understood."""

    async def echo(peer: OriginPeer) -> None:
        await peer.send(await peer.reader.readexactly(8))

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(echo)
        client = await lab.connect(origin.port, host.decode(), early=b"\r\nsecret")
        if host == b"allowed.test":
            assert await client.reader.readexactly(8) == b"\r\nsecret"
        else:
            assert await client.closed()
            assert not origin.connections

    play(scenario, tmp_path, fast_path=False)


def test_a_refused_connect_leaves_the_connection_to_the_next(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        for _ in range(2):
            answer = await client.ask(b"CONNECT denied.test:443 HTTP/1.1\r\nhost: denied.test\r\n\r\n", "CONNECT")
            assert (answer.status, answer.reason) == (403, "Blocked by network policy (blocked-by-denylist)")
        assert (await client.ask(get(origin.port))).status == 200

    play(scenario, tmp_path, fast_path=False)


def test_limited_mode_refuses_what_writes(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        assert (
            await client.ask(get(origin.port, b"/", b"allowed.test", b"x-http-method-override: DELETE"))
        ).status == 200
        assert origin.requests[0].values(b"x-http-method-override") == []
        for request in (
            post(origin.port, b"content-length: 0"),
            get(origin.port, b"/", b"allowed.test", b"content-length: 1"),
        ):
            refused = await lab.client()
            assert (await refused.ask(request)).status == 403
        assert len(origin.requests) == 1

    play(scenario, tmp_path, configuration("limited"))


def test_errors_are_kept_from_the_next_request_by_the_connections_end(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(saying())
        client: Peer = await lab.client()
        answer = await client.ask(get(origin.port))
        assert text(answer) == (502, "upstream failure: the origin closed the connection")
        assert await client.closed()
        assert (await (await lab.client()).ask(get((await lab.origin(polite)).port))).status == 200

    play(scenario, tmp_path)
