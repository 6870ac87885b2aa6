"""Bodies flow; what is kept for show is small, and nothing is kept when nobody looks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mitmproxy import http, websocket
from mitmproxy.addons.view import View
from mitmproxy.test import taddons
from wsproto.frame_protocol import Opcode

from codex_network_proxy.addons.streaming import KEPT_BODY, KEPT_MESSAGES, Streaming, has_view

from .flow_kit import Pairs, bench


@pytest.fixture(params=[True, False], ids=["with mitmweb", "without"])
def shown(request: pytest.FixtureRequest) -> Iterator[bool]:
    with taddons.context(*([View()] if request.param else [])):
        yield request.param


SIZES = [
    pytest.param([("content-length", "5")], True, id="small"),
    pytest.param([("content-length", str(KEPT_BODY))], True, id="just small enough"),
    pytest.param([("content-length", str(KEPT_BODY + 1))], False, id="too large"),
    pytest.param([], False, id="of unknown length"),
    pytest.param([("content-length", "many")], False, id="of a length that is no number"),
    pytest.param([("transfer-encoding", "chunked")], False, id="in chunks"),
]


@pytest.mark.parametrize(("fields", "small"), SIZES)
def test_requests(shown: bool, fields: Pairs, small: bool) -> None:
    with bench() as here:
        flow = here.flow(fields=fields)
        Streaming().requestheaders(flow)
        assert flow.request.stream is not (shown and small)


@pytest.mark.parametrize(("fields", "small"), SIZES)
def test_answers(shown: bool, fields: Pairs, small: bool) -> None:
    with bench() as here:
        flow = here.flow()
        flow.response = http.Response.make(200)
        flow.response.headers = http.Headers([(name.encode(), value.encode()) for name, value in fields])
        Streaming().responseheaders(flow)
        assert flow.response.stream is not (shown and small)


def test_an_empty_view_is_a_view(shown: bool) -> None:
    assert has_view() is shown


def conversation(*sizes: int) -> http.HTTPFlow:
    with bench() as here:
        flow = here.flow()
    messages = [websocket.WebSocketMessage(Opcode.BINARY, True, bytes(size)) for size in sizes]
    flow.websocket = websocket.WebSocketData(messages=messages)
    Streaming().websocket_message(flow)
    return flow


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        pytest.param([1], 1, id="one message"),
        pytest.param([1] * (KEPT_MESSAGES + 5), KEPT_MESSAGES, id="too many messages"),
        pytest.param([KEPT_BODY // 2] * 3, 2, id="too many bytes"),
        pytest.param([1, KEPT_BODY * 2], 1, id="one message that is too large"),
        pytest.param([KEPT_BODY, 1, 1], 2, id="a large one before small ones"),
    ],
)
def test_messages_are_kept_within_bounds_and_the_last_always(sizes: list[int], kept: int) -> None:
    flow = conversation(*sizes)
    assert flow.websocket
    assert [len(message.content) for message in flow.websocket.messages] == sizes[-kept:]
