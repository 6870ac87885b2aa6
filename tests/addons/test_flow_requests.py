"""From flows to questions: what is asked is what will be sent, and what cannot be asked is refused."""

from __future__ import annotations

import pytest

from codex_network_proxy.addons.flow_requests import BadRequest, connect_request, http_request
from codex_network_proxy.policy.decision import HttpUse, NetworkProtocol, Tunnel

from .flow_kit import Pairs, bench

MISMATCH = "host mismatch"


def test_a_plain_request() -> None:
    with bench() as here:
        asked = http_request(here.flow("http://allowed.test:8080/p?q", [("Host", "allowed.test:8080")]), here.session)
    assert (asked.protocol, str(asked.target), asked.method) == (NetworkProtocol.HTTP, "allowed.test:8080", "GET")
    assert asked.use == HttpUse("GET", False, "/p?q", (("Host", "allowed.test:8080"),))
    assert asked.client_address == "127.0.0.1:5"


def test_an_inner_request() -> None:
    with bench() as here:
        here.enter("hooked.test:8443")
        asked = http_request(here.flow("https://hooked.test:8443/", method="POST"), here.session)
    assert (asked.protocol, str(asked.target)) == (NetworkProtocol.HTTPS_CONNECT, "hooked.test:8443")
    assert isinstance(asked.use, HttpUse)
    assert asked.use.secure


def test_an_absolute_https_request_is_secure_and_plain() -> None:
    with bench() as here:
        asked = http_request(here.flow("https://hooked.test/", [("Host", "hooked.test")]), here.session)
    assert (asked.protocol, asked.port) == (NetworkProtocol.HTTP, 443)
    assert isinstance(asked.use, HttpUse)
    assert asked.use.secure


def test_a_connect() -> None:
    with bench() as here:
        asked = connect_request(here.flow("https://allowed.test/", method="CONNECT"), here.session)
    assert (asked.protocol, asked.use, asked.method) == (NetworkProtocol.HTTPS_CONNECT, Tunnel(), "CONNECT")


@pytest.mark.parametrize(
    ("fields", "body", "has_body"),
    [
        pytest.param([], False, False, id="nothing announced and nothing comes"),
        pytest.param([], True, True, id="a body that nobody announced"),
        pytest.param([("Content-Length", "0")], False, False, id="a length of nothing"),
        pytest.param([("Content-Length", "000")], False, False, id="a long length of nothing"),
        pytest.param([("Content-Length", "1")], False, True, id="a length"),
        pytest.param([("Content-Length", "1")], True, True, id="a length and a body"),
        pytest.param([("Transfer-Encoding", "chunked")], False, True, id="chunks"),
    ],
)
def test_whether_a_body_comes(fields: Pairs, body: bool, has_body: bool) -> None:
    with bench() as here:
        use = http_request(here.flow(fields=fields, body=body), here.session).use
    assert isinstance(use, HttpUse)
    assert use.has_body is has_body


@pytest.mark.parametrize(
    ("url", "fields", "text"),
    [
        pytest.param("http://allowed.test/", [("Host", "evil.test")], "Host header does not match request target",
                     id="another host"),
        pytest.param("http://allowed.test:81/", [("Host", "allowed.test")],
                     "Host header does not match request target", id="no port where the target has one"),
        pytest.param("http://allowed.test/", [("Host", "allowed.test"), ("host", "evil.test")],
                     "Host header does not match request target", id="a second host"),
        pytest.param("http://allowed.test/", [("Host", "a b")], "invalid Host header", id="no host"),
    ],
)  # fmt: skip
def test_plain_requests_whose_hosts_do_not_agree(url: str, fields: Pairs, text: str) -> None:
    with bench() as here, pytest.raises(BadRequest) as caught:
        http_request(here.flow(url, fields), here.session)
    assert (caught.value.status, caught.value.text) == (400, text)


@pytest.mark.parametrize(
    ("url", "fields", "authority"),
    [
        pytest.param("https://hooked.test/", [("Host", "HOOKED.test.")], "", id="the host in another spelling"),
        pytest.param("https://hooked.test/", [("Host", "hooked.test:443")], "", id="the host with its port"),
        pytest.param("https://hooked.test/", [], "hooked.test", id="an authority"),
        pytest.param("https://hooked.test/", [("host", "hooked.test")], "hooked.test:443", id="both"),
        pytest.param("https://hooked.test/", [], "", id="neither"),
    ],
)
def test_inner_requests_that_agree(url: str, fields: Pairs, authority: str) -> None:
    with bench() as here:
        here.enter()
        assert str(http_request(here.flow(url, fields, authority=authority), here.session).target) == "hooked.test:443"


@pytest.mark.parametrize(
    ("url", "fields", "authority"),
    [
        pytest.param("https://hooked.test/", [("Host", "evil.test")], "", id="another host"),
        pytest.param("https://hooked.test/", [("Host", "hooked.test:80")], "", id="another port"),
        pytest.param("https://hooked.test/", [("Host", "hooked.test"), ("Host", "hooked.test")], "", id="two hosts"),
        pytest.param("https://hooked.test/", [], "evil.test", id="another authority"),
        pytest.param("https://hooked.test/", [("host", "hooked.test")], "evil.test", id="a host beside it"),
        pytest.param("https://hooked.test/", [], "user@hooked.test", id="user-info"),
        pytest.param("https://hooked.test/", [], "hooked.test:0", id="a port that is none"),
        pytest.param("https://hooked.test/", [("Host", "")], "", id="an empty host"),
        pytest.param("https://hooked.test:8443/", [], "", id="a flow that somebody sent elsewhere"),
        pytest.param("https://evil.test/", [], "", id="a flow that somebody gave another host"),
    ],
)
def test_inner_requests_that_do_not_agree(url: str, fields: Pairs, authority: str) -> None:
    with bench() as here:
        here.enter()
        with pytest.raises(BadRequest) as caught:
            http_request(here.flow(url, fields, authority=authority), here.session)
    assert (caught.value.status, caught.value.text) == (400, MISMATCH)


def test_a_tunnel_without_a_decision_has_no_target() -> None:
    with bench() as here:
        here.client.timestamp_tls_setup = 1.0
        with pytest.raises(BadRequest, match=MISMATCH):
            http_request(here.flow("https://hooked.test/"), here.session)


@pytest.mark.parametrize("method", ["TRACE", "trace", "Trace"])
def test_trace_is_never_asked(method: str) -> None:
    with bench() as here, pytest.raises(BadRequest) as caught:
        http_request(here.flow(method=method), here.session)
    assert caught.value.status == 405


@pytest.mark.parametrize(
    ("host", "port"), [("a b", 80), ("", 80), ("a.test\r\n", 80), ("a.test", 0), ("a.test", 1 << 16)]
)
def test_a_target_that_is_no_endpoint(host: str, port: int) -> None:
    with bench() as here:
        flow = here.flow()
        flow.request.data.host, flow.request.data.port = host, port
        with pytest.raises(BadRequest, match="invalid host"):
            http_request(flow, here.session)


def test_only_a_complete_websocket_request_is_an_upgrade() -> None:
    with bench() as here:
        asking = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
        whole = [*asking, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
        upgrades = []
        for fields in (asking, whole):
            use = http_request(here.flow(fields=fields), here.session).use
            assert isinstance(use, HttpUse)
            upgrades.append(use.upgrade)
    assert upgrades == [None, "websocket"]
