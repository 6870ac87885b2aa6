"""Upstream proxies that fail, are switched off, or are programs of others (spec A6; L07, L09)."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.hooks import API, CANARY, SECRET_VARIABLE
from tests.kit.inner import INNER_DOORS, Inner, open_tunnel
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, connect, exchange, get, request
from tests.kit.real_proxies import Squid, Tinyproxy
from tests.kit.socks_client import SocksClient
from tests.kit.tcp_origins import BANNER, TcpOrigin, banner_first
from tests.kit.tls import TestAuthority
from tests.kit.upstream_proxy import LOGIN, PASSWORD, POLICY, UpstreamProxyServer, behind
from tests.kit.websocket import TEXT, read_frame, upgrade
from tests.kit.wire import Response

# -- trouble ---------------------------------------------------------------------------------------------------------


def failures(proxy: ProxyProcess, origin: HttpOrigin) -> list[Response]:
    """The answers at every door."""
    at = f"allowed.test:{origin.port}"
    with Client(proxy.http) as client:
        plain = [client.ask(get(f"http://{at}/t"))]
    with Client(proxy.http) as client:
        tunnels = [client.ask(connect(at), "CONNECT") for _ in range(2)]
    return [*plain, *tunnels, exchange(proxy.http, get(f"https://{at}/t"))]


def check_failed(proxy: ProxyProcess, origin: HttpOrigin, text: str, code: int) -> None:
    """The same at every door, at once, and nothing of the upstream proxy's answer."""
    for answer in failures(proxy, origin):
        assert (answer.status, answer.text) == (502, f"upstream failure: {text}")
        assert answer.get("proxy-authenticate") is None
    with SocksClient(proxy.socks) as client:
        assert client.command(b"allowed.test", origin.port).code == code
        assert client.ended()


@pytest.mark.parametrize(
    ("login", "text"),
    [
        pytest.param(None, "the upstream proxy requires authentication", id="none"),
        pytest.param("agent:wrong", "the upstream proxy did not accept the credentials", id="wrong ones"),
    ],
)
def test_credentials_that_are_not_accepted(
    login: str | None, text: str, fast_path: bool, origin: HttpOrigin, tmp_path: Path
) -> None:
    with (
        UpstreamProxyServer(LOGIN) as upstream,
        ProxyProcess(tmp_path, OPEN, fast_path=fast_path, environment=behind(upstream, login)) as proxy,
    ):
        check_failed(proxy, origin, text, 5)
        proxy.until_printed(f"upstream request failed: upstream failure: {text} (client=")


def test_a_dead_upstream_proxy(fast_path: bool, origin: HttpOrigin, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        dead = {"ALL_PROXY": f"http://{LOGIN}@127.0.0.1:{held.getsockname()[1]}"}
        with ProxyProcess(tmp_path, OPEN, fast_path=fast_path, environment=dead) as proxy:
            check_failed(proxy, origin, "the upstream proxy could not be reached (connection refused)", 5)
            assert PASSWORD not in proxy.output


def test_a_target_that_the_upstream_proxy_cannot_reach(fast_path: bool, tmp_path: Path) -> None:
    with socket.socket() as held, UpstreamProxyServer() as upstream:
        held.bind(("127.0.0.1", 0))
        at = f"allowed.test:{held.getsockname()[1]}"
        with ProxyProcess(tmp_path, OPEN, fast_path=fast_path, environment=behind(upstream, None)) as proxy:
            answer = exchange(proxy.http, connect(at), "CONNECT")
            assert (answer.status, answer.text) == (502, "upstream failure: the upstream proxy answered 502")
            with SocksClient(proxy.socks) as client:
                assert client.command(b"allowed.test", held.getsockname()[1]).code == 4


# -- switching -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.1 is the only loopback address")
def test_the_proxy_itself_in_the_environment_is_no_upstream_proxy(origin: HttpOrigin, tmp_path: Path) -> None:
    # An address that nobody else uses, so that the port is known before it is bound.
    own = f"127.83.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    policy = replace(OPEN, lines=(f'proxy_url = "http://{own}:3128"', f'socks_url = "http://{own}:8081"'))
    environment = {"HTTP_PROXY": "http://localhost:3128", "https_proxy": "[::1]:8081", "ALL_PROXY": "socks5h://x:1"}
    with ProxyProcess(tmp_path, policy, environment=environment) as proxy:
        for line in (
            "ignoring HTTP_PROXY: it is the address of this proxy itself",
            "ignoring HTTPS_PROXY: it is the address of this proxy itself",
            "ignoring ALL_PROXY: non-http proxy protocol",
        ):
            proxy.until_printed(line)
        assert "upstream proxy for" not in proxy.output
        assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).text == "ok from shared\n"
        assert exchange(proxy.http, connect(f"allowed.test:{origin.port}"), "CONNECT").status == 200


def test_it_is_switched_off_while_running(fast_path: bool, origin: HttpOrigin, tmp_path: Path) -> None:
    at = f"allowed.test:{origin.port}"
    with (
        UpstreamProxyServer(LOGIN) as upstream,
        ProxyProcess(tmp_path, OPEN, fast_path=fast_path, environment=behind(upstream)) as proxy,
    ):
        proxy.until_printed(f"upstream proxy for HTTPS and other tunnels: http://{upstream.address}")
        proxy.until_printed(f"upstream proxy for plain HTTP: http://{upstream.address}")
        with open_tunnel(proxy, at) as client:
            assert upstream.asked == [f"CONNECT {at}"]
            proxy.reload(replace(OPEN, lines=("allow_upstream_proxy = false",)).toml())
            assert client.ended(), "a tunnel that may not be there any more"
        assert exchange(proxy.http, connect(at), "CONNECT").status == 200
        assert exchange(proxy.http, get(f"http://{at}/t")).status == 200
        assert upstream.asked == [f"CONNECT {at}"]
        assert PASSWORD not in proxy.output


def test_it_can_be_switched_off_from_the_start(origin: HttpOrigin, tmp_path: Path) -> None:
    policy = replace(OPEN, lines=("allow_upstream_proxy = false",))
    environment = {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://bad address"}
    with ProxyProcess(tmp_path, policy, environment=environment) as proxy:
        assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).text == "ok from shared\n"
        assert "_PROXY" not in proxy.output


# -- proxies of others -----------------------------------------------------------------------------------------------


def test_tinyproxy(origin: HttpOrigin, tls_origin: HttpOrigin, authority: TestAuthority, tmp_path: Path) -> None:
    with UpstreamProxyServer() as last, Tinyproxy(tmp_path / "tinyproxy", last.address, LOGIN) as upstream:
        use(f"http://{LOGIN}@{upstream.address}", origin, tls_origin, authority, tmp_path)
        assert f"CONNECT {API}:{tls_origin.port}" in last.asked
        assert CANARY.encode() not in last.recorder.received


def test_squid(origin: HttpOrigin, tls_origin: HttpOrigin, authority: TestAuthority, tmp_path: Path) -> None:
    with Squid("allowed.test", API) as upstream:
        use(f"http://{upstream.address}", origin, tls_origin, authority, tmp_path)
        log = (upstream.folder / "access.log").read_text()
        assert f"CONNECT {API}:{tls_origin.port}" in log
        assert f"GET http://allowed.test:{origin.port}/t" in log


def use(upstream: str, origin: HttpOrigin, tls_origin: HttpOrigin, authority: TestAuthority, folder: Path) -> None:
    """Every kind of client, once."""
    environment = {"ALL_PROXY": upstream, SECRET_VARIABLE: CANARY, "SSL_CERT_FILE": str(authority.bundle)}
    with ProxyProcess(folder / "home", POLICY, environment=environment) as proxy:
        with Client(proxy.http) as client:
            for _ in range(2):
                assert client.ask(get(f"http://allowed.test:{origin.port}/t")).text == "ok from shared\n"
            upload = request("POST", f"http://allowed.test:{origin.port}/echo", body=b"x" * 1000)
            assert client.ask(upload).json()["length"] == 1000
        for door in INNER_DOORS:
            outcome = door.send(proxy, f"{API}:{tls_origin.port}".encode(), Inner(path=b"/t"))
            assert outcome.word == "passed", outcome
        with TcpOrigin(banner_first) as server:
            with open_tunnel(proxy, f"allowed.test:{server.port}") as client:
                assert client.stream.exactly(len(BANNER)) == BANNER
            with SocksClient(proxy.socks) as client:
                assert client.command(b"allowed.test", server.port).code == 0
                assert client.stream.exactly(len(BANNER)) == BANNER
        at = f"allowed.test:{origin.port}"
        with Client(proxy.http) as client:
            assert upgrade(client, f"http://{at}/ws", at).status == 101
            assert read_frame(client.stream) == (TEXT, b"hello")
        assert {dialled for _, dialled in proxy.world.dials()} == {int(upstream.rpartition(":")[2])}
        assert PASSWORD not in proxy.output
