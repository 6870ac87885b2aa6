"""HTTP/1 towards the client: what is read, what is answered, and when the connection ends (classes D, F, H)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from mitmproxy import connection, options
from mitmproxy.proxy import commands, context, events

from codex_network_proxy.addons import http1
from codex_network_proxy.addons.blocked import DISCARD_LIMIT
from codex_network_proxy.addons.http1 import PolicedHttp1Server
from codex_network_proxy.addons.http_head import HEAD_LIMIT

from .engine_kit import HOOKED, Answer, Lab, OriginPeer, Peer, configuration, play, polite, reply, saying

HOST = b"host: hooked.test:%d\r\n"


def text(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.decode()


def at(port: int, host: bytes = b"allowed.test") -> bytes:
    return b"%b:%d" % (host, port)


def get(port: int, path: bytes = b"/", host: bytes = b"allowed.test", *fields: bytes) -> bytes:
    target = at(port, host)
    head = b"\r\n".join([b"GET http://%b%b HTTP/1.1" % (target, path), b"host: " + target, *fields, b"", b""])
    return head


def post(port: int, *fields: bytes, host: bytes = b"allowed.test", body: bytes = b"") -> bytes:
    return get(port, b"/", host, *fields).replace(b"GET", b"POST", 1) + body


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


def server() -> tuple[PolicedHttp1Server, context.Context]:
    client = connection.Client(
        peername=("a", 1), sockname=("b", 2), state=connection.ConnectionState.OPEN, timestamp_start=0.0
    )
    stack = context.Context(client, options.Options())
    made = PolicedHttp1Server(stack)
    assert list(made.handle_event(events.Start())) == []
    return made, stack


def test_half_a_head_has_ten_seconds() -> None:
    made, stack = server()
    (timer,) = made.handle_event(events.DataReceived(stack.client, b"GET / HT"))
    assert isinstance(timer, commands.RequestWakeup)
    assert timer.delay == http1.HEAD_DEADLINE
    assert list(made.handle_event(events.DataReceived(stack.client, b"TP/1.1\r\n"))) == [], "one timer for each head"
    sent, closed, linger = made.handle_event(events.Wakeup(timer))
    assert isinstance(sent, commands.SendData)
    assert sent.data.startswith(b"HTTP/1.1 408 ")
    assert isinstance(closed, commands.CloseTcpConnection)
    assert closed.half_close
    assert isinstance(linger, commands.RequestWakeup)


def test_the_last_answer_has_two_seconds_to_be_read() -> None:
    made, stack = server()
    _, _, timer = made.handle_event(events.DataReceived(stack.client, b"\x00noise"))
    assert isinstance(timer, commands.RequestWakeup)
    assert timer.delay == http1.LINGER
    assert list(made.handle_event(events.DataReceived(stack.client, b"more"))) == []
    left = list(made.handle_event(events.Wakeup(timer)))
    assert [type(command) for command in left] == [commands.CloseConnection]


def test_a_client_that_sends_on_after_its_last_answer_is_cut() -> None:
    made, stack = server()
    list(made.handle_event(events.DataReceived(stack.client, b"\x00noise")))
    left = list(made.handle_event(events.DataReceived(stack.client, bytes(DISCARD_LIMIT + 1))))
    assert [type(command) for command in left] == [commands.CloseConnection]


def test_a_timer_of_an_earlier_head_means_nothing() -> None:
    made, stack = server()
    (timer,) = made.handle_event(events.DataReceived(stack.client, b"GET"))
    assert isinstance(timer, commands.RequestWakeup)
    list(made.handle_event(events.DataReceived(stack.client, b" http://a/ HTTP/1.1\r\n\r\n")))
    assert list(made.handle_event(events.Wakeup(timer))) == []


def test_a_client_that_leaves_in_the_middle_of_a_head_is_not_quoted() -> None:
    made, stack = server()
    list(made.handle_event(events.DataReceived(stack.client, b"GET /secret")))
    left = list(made.handle_event(events.ConnectionClosed(stack.client)))
    assert [type(command) for command in left] == [commands.CloseConnection]


# The connection's end


@pytest.mark.parametrize(
    ("version", "fields", "closes"),
    [
        pytest.param(b"1.1", b"", False, id="nothing said"),
        pytest.param(b"1.1", b"Connection: keep-alive\r\n", False, id="keep-alive"),
        pytest.param(b"1.1", b"Connection: x\r\nCONNECTION: Close\r\n", True, id="close, in the second line"),
        pytest.param(b"1.0", b"", True, id="HTTP/1.0"),
        pytest.param(b"1.0", b"Connection: keep-alive\r\n", True, id="HTTP/1.0 with keep-alive"),
    ],
)
@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "blocked"])
def test_the_client_says_when_it_ends(
    allowed: bool, version: bytes, fields: bytes, closes: bool, tmp_path: Path
) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        target = at(origin.port, b"allowed.test" if allowed else b"denied.test")
        request = b"GET http://%b/ HTTP/%b\r\nhost: %b\r\n%b\r\n" % (target, version, target, fields)
        answer = await client.ask(request)
        assert answer.status == (200 if allowed else 403)
        assert answer.get("connection") == ("close" if closes else None)
        if closes:
            assert await client.closed()
        else:
            assert (await client.ask(request)).status == answer.status
        assert all(request.values(b"connection") == [] for request in origin.requests)

    play(scenario, tmp_path)


def test_the_origins_close_is_not_the_clients(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(saying(reply(b"one", "connection: close")))
        client = await lab.client()
        for _ in range(3):
            answer = await client.ask(get(origin.port))
            assert (answer.status, answer.get("connection")) == (200, None)
        assert origin.connections == 3, "and the origin's is not used again"

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


# One request after another


def test_every_pipelined_request_is_judged(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin, client = await lab.origin(), await lab.client()
        await client.send(get(origin.port, b"/1") + get(origin.port, b"/2", b"denied.test") + get(origin.port, b"/3"))
        assert [(await client.answer()).status for _ in range(3)] == [200, 403, 200]
        assert [one.line for one in origin.requests] == [b"GET /1 HTTP/1.1", b"GET /3 HTTP/1.1"]

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
