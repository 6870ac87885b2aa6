"""requests, httpx and urllib: allowed, blocked, and what their errors say."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from dataclasses import replace

import httpx
import pytest
import requests

from tests.kit.answers import BLOCKS
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.tls import TestAuthority

TLS_NAME = "a.sub.test"
PHRASE = "Blocked by network policy (blocked-by-allowlist)"


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


def session(proxy: ProxyProcess) -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    made.proxies = {"http": f"http://{proxy.http}", "https": f"http://{proxy.http}"}
    return made


def httpx_client(proxy: ProxyProcess, context: ssl.SSLContext | None = None) -> httpx.Client:
    verify: ssl.SSLContext | bool = True if context is None else context
    return httpx.Client(proxy=f"http://{proxy.http}", trust_env=False, verify=verify)


def test_requests_plain(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with session(proxy) as client:
        assert client.get(f"http://allowed.test:{origin.port}/t").text == "ok from shared\n"
        seen = client.post(f"http://allowed.test:{origin.port}/echo", data=b"12345").json()
        assert (seen["method"], seen["length"], seen["target"]) == ("POST", 5, "/echo")
        blocked = client.get(f"http://evil.test:{origin.port}/t")
        assert (blocked.status_code, blocked.reason) == (403, PHRASE)
        assert blocked.json()["message"] == BLOCKS["not_allowed"][1]
        assert client.get(f"http://allowed.test:{origin.port}/t").status_code == 200, "the session goes on"


def test_requests_https(proxy: ProxyProcess, authority: TestAuthority) -> None:
    with HttpOrigin("tls", tls=authority.server_context(TLS_NAME)) as server, session(proxy) as client:
        client.verify = str(authority.bundle)
        assert client.get(f"https://{TLS_NAME}:{server.port}/t").text == "ok from tls\n"
        with pytest.raises(requests.exceptions.ProxyError, match=r"Blocked by network policy \(blocked-by-denylist\)"):
            client.get(f"https://denied.test:{server.port}/t")
        assert len(server.recorder.connections) == 1


def test_httpx_plain(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with httpx_client(proxy) as client:
        assert client.get(f"http://allowed.test:{origin.port}/t").text == "ok from shared\n"
        blocked = client.get(f"http://evil.test:{origin.port}/t")
        assert (blocked.status_code, blocked.reason_phrase) == (403, PHRASE)
        assert blocked.headers["x-proxy-error"] == "blocked-by-allowlist"


def test_httpx_https(proxy: ProxyProcess, authority: TestAuthority) -> None:
    context = authority.client_context()
    with (
        HttpOrigin("tls", tls=authority.server_context(TLS_NAME)) as server,
        httpx_client(proxy, context) as client,
    ):
        assert client.get(f"https://{TLS_NAME}:{server.port}/t").text == "ok from tls\n"
        with pytest.raises(httpx.ProxyError, match=r"Blocked by network policy \(blocked-by-allowlist\)"):
            client.get(f"https://evil.test:{server.port}/t")


def test_urllib(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    handler = urllib.request.ProxyHandler({"http": f"http://{proxy.http}", "https": f"http://{proxy.http}"})
    opener = urllib.request.build_opener(handler)
    with opener.open(f"http://allowed.test:{origin.port}/t", timeout=10) as answer:
        assert answer.read() == b"ok from shared\n"
    with pytest.raises(urllib.error.URLError, match="Blocked by network policy"):
        opener.open(f"https://evil.test:{origin.port}/t", timeout=10)


def test_a_tunnel_that_fails_tells_why(fleet: Fleet) -> None:
    proxy = fleet.get(replace(OPEN, allowed=("*.nowhere.test",)))
    why = r"502 Bad Gateway \(upstream failure: could not resolve a.nowhere.test\)"
    with session(proxy) as client, pytest.raises(requests.exceptions.ProxyError, match=why):
        client.get("https://a.nowhere.test/")
    with httpx_client(proxy) as other, pytest.raises(httpx.ProxyError, match=why):
        other.get("https://a.nowhere.test/")
