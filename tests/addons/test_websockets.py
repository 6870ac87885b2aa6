"""WebSocket handshakes: only what the client asked for, and only if the origin has understood it (class H05)."""

from __future__ import annotations

import pytest
from mitmproxy import http

from codex_network_proxy.addons.websockets import accept_value, asks_for_websocket, handshake_problem

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ASKING = {
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-key": KEY,
    "sec-websocket-version": "13",
}
AGREEING = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": accept_value(KEY)}
UNASKED = "the origin switched protocols unasked"
WRONG = "the origin's WebSocket handshake is wrong"
SUBPROTOCOL = "the origin chose a WebSocket subprotocol that was not offered"
EXTENSION = "the origin chose a WebSocket extension that was not offered"


def request(fields: dict[str, str], method: str = "GET", version: str = "HTTP/1.1") -> http.Request:
    headers = http.Headers([(name.encode(), value.encode()) for name, value in fields.items()])
    request = http.Request.make(method, "http://allowed.test/", headers=headers)
    request.data.http_version = version.encode()
    return request


def test_the_accept_value_of_the_standards_own_example() -> None:
    assert accept_value(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("changed", "asks"),
    [
        pytest.param({}, True, id="as the standard says"),
        pytest.param({"upgrade": "WebSocket", "connection": "keep-alive, upgrade"}, True, id="in other spellings"),
        pytest.param({"upgrade": "h2c"}, False, id="another protocol"),
        pytest.param({"upgrade": "websocket, h2c"}, False, id="another protocol as well"),
        pytest.param({"upgrade": "notwebsocket"}, False, id="a name that ends alike"),
        pytest.param({"connection": "keep-alive"}, False, id="an upgrade that Connection does not name"),
        pytest.param({"connection": "notupgrade"}, False, id="a token that ends alike"),
        pytest.param({"sec-websocket-version": "8"}, False, id="an old version"),
        pytest.param({"sec-websocket-key": ""}, False, id="an empty key"),
        pytest.param({"sec-websocket-key": "AAAA"}, False, id="a short key"),
        pytest.param({"sec-websocket-key": "not base64!!"}, False, id="a key that is no base64"),
    ],
)
def test_what_counts_as_asking(changed: dict[str, str], asks: bool) -> None:
    assert asks_for_websocket(request({**ASKING, **changed})) is asks


@pytest.mark.parametrize("name", list(ASKING))
def test_each_field_is_needed(name: str) -> None:
    assert not asks_for_websocket(request({key: value for key, value in ASKING.items() if key != name}))


@pytest.mark.parametrize(("method", "version"), [("POST", "HTTP/1.1"), ("GET", "HTTP/1.0"), ("GET", "HTTP/2.0")])
def test_only_a_get_of_http11_asks(method: str, version: str) -> None:
    assert not asks_for_websocket(request(ASKING, method, version))


@pytest.mark.parametrize("name", ["upgrade", "sec-websocket-key", "sec-websocket-version"])
def test_a_field_given_twice_does_not_ask(name: str) -> None:
    asking = request(ASKING)
    asking.headers.add(name, asking.headers[name])
    assert not asks_for_websocket(asking)


@pytest.mark.parametrize(
    ("offered", "answer", "problem"),
    [
        pytest.param({}, {}, None, id="the right answer"),
        pytest.param({}, {"upgrade": "WebSocket"}, None, id="in another spelling"),
        pytest.param({}, {"upgrade": "foo"}, UNASKED, id="another protocol"),
        pytest.param({}, {"upgrade": ""}, UNASKED, id="no protocol"),
        pytest.param({}, {"connection": "close"}, UNASKED, id="Connection does not agree"),
        pytest.param({}, {"sec-websocket-accept": "AAAA"}, WRONG, id="a wrong accept value"),
        pytest.param({}, {"sec-websocket-accept": accept_value(KEY).lower()}, WRONG, id="its case is wrong"),
        pytest.param({}, {"sec-websocket-protocol": "chat"}, SUBPROTOCOL, id="a subprotocol nobody offered"),
        pytest.param(
            {"sec-websocket-protocol": "a, b"}, {"sec-websocket-protocol": "b"}, None, id="one of the offered ones"
        ),
        pytest.param(
            {"sec-websocket-protocol": "chat"}, {"sec-websocket-protocol": "CHAT"}, SUBPROTOCOL, id="in another case"
        ),
        pytest.param(
            {"sec-websocket-protocol": "a, b"}, {"sec-websocket-protocol": "a, b"}, SUBPROTOCOL, id="two of them"
        ),
        pytest.param(
            {}, {"sec-websocket-extensions": "permessage-deflate"}, EXTENSION, id="an extension nobody offered"
        ),
        pytest.param(
            {"sec-websocket-extensions": "permessage-deflate; client_max_window_bits"},
            {"sec-websocket-extensions": "permessage-deflate"},
            None,
            id="an offered extension",
        ),
        pytest.param(
            {"sec-websocket-extensions": "permessage-deflate"},
            {"sec-websocket-extensions": "permessage-deflate, x-webkit"},
            EXTENSION,
            id="an offered extension and another",
        ),
    ],
)
def test_what_an_origin_may_answer(offered: dict[str, str], answer: dict[str, str], problem: str | None) -> None:
    fields = {name: value for name, value in {**AGREEING, **answer}.items() if value}
    assert handshake_problem(request({**ASKING, **offered}), http.Response.make(101, b"", fields)) == problem


def test_two_accept_values_are_wrong() -> None:
    answer = http.Response.make(101, b"", AGREEING)
    answer.headers.add("sec-websocket-accept", accept_value(KEY))
    assert handshake_problem(request(ASKING), answer) == WRONG


def test_a_switch_that_nobody_asked_for() -> None:
    assert handshake_problem(request({}), http.Response.make(101, b"", AGREEING)) == UNASKED
