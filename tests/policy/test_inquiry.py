"""A URL or a host becomes the questions that a client would ask, one for each decision it would meet."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.decision import HttpUse, NetworkPolicyRequest, NetworkProtocol, Tunnel
from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.inquiry import questions

HTTP, CONNECT = NetworkProtocol.HTTP, NetworkProtocol.HTTPS_CONNECT
TCP, UDP = NetworkProtocol.SOCKS5_TCP, NetworkProtocol.SOCKS5_UDP


def plain(target: str, use: HttpUse) -> NetworkPolicyRequest:
    return NetworkPolicyRequest(HTTP, parse_endpoint(target), use, use.method)


def tunnel(target: str, protocol: NetworkProtocol = CONNECT) -> NetworkPolicyRequest:
    method = "CONNECT" if protocol is CONNECT else None
    return NetworkPolicyRequest(protocol, parse_endpoint(target), Tunnel(), method)


def inner(target: str, use: HttpUse) -> NetworkPolicyRequest:
    return NetworkPolicyRequest(CONNECT, parse_endpoint(target), use, use.method)


SECURE_GET = HttpUse("GET", secure=True)


@pytest.mark.parametrize(
    ("text", "options", "asked"),
    [
        pytest.param("a.test", {}, [tunnel("a.test:443")], id="a host"),
        pytest.param("A.Test.:22", {}, [tunnel("a.test:22")], id="a host and port"),
        pytest.param("[::1]:22", {"protocol": TCP}, [tunnel("[::1]:22", TCP)], id="SOCKS5"),
        pytest.param("a.test:53", {"protocol": UDP}, [tunnel("a.test:53", UDP)], id="a datagram"),
        pytest.param("a.test", {"protocol": HTTP}, [plain("a.test:80", HttpUse("GET"))], id="a host over plain HTTP"),
        pytest.param(
            "a.test",
            {"method": "POST"},
            [tunnel("a.test:443"), inner("a.test:443", HttpUse("POST", secure=True))],
            id="a method is asked for inside the tunnel",
        ),
        pytest.param("http://a.test", {}, [plain("a.test:80", HttpUse("GET"))], id="a URL without a path"),
        pytest.param(
            "HTTP://A.test:8080/x?y#z",
            {"method": "PUT", "headers": [("a", "b")]},
            [plain("a.test:8080", HttpUse("PUT", path="/x?y", headers=(("a", "b"),)))],
            id="a URL without its fragment",
        ),
        pytest.param(
            "https://a.test?y",
            {},
            [tunnel("a.test:443"), inner("a.test:443", HttpUse("GET", secure=True, path="/?y"))],
            id="a URL with a query alone",
        ),
        pytest.param(
            "https://a.test/",
            {"protocol": TCP},
            [tunnel("a.test:443", TCP), inner("a.test:443", SECURE_GET)],
            id="a URL over SOCKS5",
        ),
        pytest.param("https://a.test/", {"protocol": HTTP}, [plain("a.test:443", SECURE_GET)], id="in absolute form"),
        pytest.param(
            "http://a.test/",
            {"protocol": CONNECT},
            [tunnel("a.test:80"), inner("a.test:80", SECURE_GET)],
            id="what is read in a tunnel is TLS",
        ),
        pytest.param(
            "ws://a.test/", {}, [plain("a.test:80", HttpUse("GET", upgrade="websocket"))], id="a plain WebSocket"
        ),
        pytest.param(
            "wss://a.test/",
            {},
            [tunnel("a.test:443"), inner("a.test:443", HttpUse("GET", secure=True, upgrade="websocket"))],
            id="a WebSocket",
        ),
    ],
)
def test_questions(text: str, options: dict[str, object], asked: list[NetworkPolicyRequest]) -> None:
    assert list(questions(text, **options)) == asked  # type: ignore[arg-type]  # rows name real arguments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("ftp://a.test/x", "ftp:// is not HTTP; write the host and port alone, a.test", id="a scheme"),
        pytest.param("a.test/x", "a path needs a scheme; write https://a.test/x", id="a path without a scheme"),
        pytest.param("https://me:pw@a.test/", "has user-info; write the URL without it", id="user-info"),
        pytest.param("https://a.test:0/", "port is not a number from 1 to 65535", id="a port"),
        pytest.param("https:///x", "host is empty", id="no host"),
        pytest.param("", "host is empty", id="nothing"),
        pytest.param("::1", "host has more than one colon; an IPv6 address needs brackets", id="IPv6 without brackets"),
    ],
)
def test_what_is_no_request(text: str, message: str) -> None:
    with pytest.raises(InvalidHost) as caught:
        questions(text)
    assert str(caught.value) == message
