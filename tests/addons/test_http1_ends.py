"""How a connection of HTTP/1 ends: by the client, by the origin, or because time is up."""

from __future__ import annotations

from pathlib import Path

import pytest
from mitmproxy import connection, options
from mitmproxy.proxy import commands, context, events

from codex_network_proxy.addons import http1
from codex_network_proxy.addons.blocked import DISCARD_LIMIT
from codex_network_proxy.addons.http1 import PolicedHttp1Server

from .engine_kit import Lab, play, reply, saying
from .http1_requests import at, get


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
