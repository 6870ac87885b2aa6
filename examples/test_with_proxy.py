"""Tests of a program that must reach one host and no other. Run them with `pytest examples/test_with_proxy.py`."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from codex_network_proxy.testing import NetworkProxyFactory, ProxyUnderTest, network_proxy

__all__ = ["network_proxy"]  # or, in the top-level conftest.py: pytest_plugins = ["codex_network_proxy.testing"]

PROGRAM = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"


class Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the answer")


@pytest.fixture
def port() -> Iterator[int]:
    """A server of the test's own, in the place of the real one."""
    with HTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def proxy(network_proxy: NetworkProxyFactory) -> ProxyUnderTest:
    policy = {"allowed_domains": ["api.example.com"], "allow_local_binding": True}
    return network_proxy(policy, resolve={"api.example.com": "127.0.0.1"})


def run(proxy: ProxyUnderTest, url: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", PROGRAM, url], env=proxy.child_env(), capture_output=True, text=True)


def test_it_reaches_its_api(proxy: ProxyUnderTest, port: int) -> None:
    assert run(proxy, f"http://api.example.com:{port}/").stdout == "the answer\n"
    assert proxy.blocked() == []


def test_it_reaches_nothing_else(proxy: ProxyUnderTest) -> None:
    assert "403" in run(proxy, "http://telemetry.example.net/").stderr
    assert proxy.blocked() == ["telemetry.example.net:80"]
