"""Python's libraries and the netcats over SOCKS5: names go to the proxy unresolved, and a no is told as such."""

from __future__ import annotations

import asyncio
import gc
import importlib
import socket
import warnings
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from python_socks import ProxyError
from python_socks.async_.asyncio import Proxy

from tests.kit.clients import need, run
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.process import python
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import split_address
from tests.kit.recipes import HTTPX, REQUESTS, recipe
from tests.kit.tls import TestAuthority
from tests.kit.wire import Stream, read_response

TLS_NAME = "a.sub.test"
GET = b"GET /t HTTP/1.1\r\nHost: inner.test\r\nConnection: close\r\n\r\n"
NOT_ALLOWED = "not allowed by ruleset"
# PySocks. A type checker takes the checkout's own folder for it; at run time it must be the real one.
socks: Any = importlib.import_module("socks")


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


def session(proxy: ProxyProcess) -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    made.proxies = {"http": f"socks5h://{proxy.socks}", "https": f"socks5h://{proxy.socks}"}
    return made


def test_requests(proxy: ProxyProcess, origin: HttpOrigin, authority: TestAuthority) -> None:
    with session(proxy) as client, HttpOrigin("tls", tls=authority.server_context(TLS_NAME)) as server:
        client.verify = str(authority.bundle)
        assert client.get(f"http://allowed.test:{origin.port}/t").text == "ok from shared\n"
        assert client.get(f"https://{TLS_NAME}:{server.port}/t").text == "ok from tls\n"
        with pytest.raises(requests.exceptions.ConnectionError, match=f"(?i){NOT_ALLOWED}"):
            client.get(f"https://evil.test:{server.port}/t")


def test_httpx(proxy: ProxyProcess, origin: HttpOrigin, authority: TestAuthority) -> None:
    with (
        httpx.Client(proxy=f"socks5h://{proxy.socks}", trust_env=False, verify=authority.client_context()) as client,
        HttpOrigin("tls", tls=authority.server_context(TLS_NAME)) as server,
    ):
        assert client.get(f"http://allowed.test:{origin.port}/t").text == "ok from shared\n"
        assert client.get(f"https://{TLS_NAME}:{server.port}/t").text == "ok from tls\n"
        check_httpx_is_refused(client, f"https://evil.test:{server.port}/t")


def check_httpx_is_refused(client: httpx.Client, url: str) -> None:
    with warnings.catch_warnings():
        # httpx leaves the connection of a refusal to the garbage collector: here, rather than in a test after this.
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(httpx.ProxyError, match=r"(?i)not allowed") as refused:
            client.get(url)
        del refused
        gc.collect()


@pytest.mark.parametrize("command", [REQUESTS, HTTPX], ids=["requests", "httpx"])
def test_the_lines_of_the_readme(command: str, proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path) -> None:
    line = recipe(command, proxy, {"url": repr(f"http://allowed.test:{origin.port}/t")})
    done = run(python("-c", f"import requests, httpx; print({line}.text)"), tmp_path)
    assert done.out == "ok from shared\n\n", done


def test_pysocks(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    host, port = split_address(proxy.socks)
    with socks.socksocket() as sock:
        sock.set_proxy(socks.SOCKS5, host, port, rdns=True)
        sock.connect(("allowed.test", origin.port))
        sock.sendall(GET)
        assert read_response(Stream(sock)).text == "ok from shared\n"
    with socks.socksocket() as sock:
        sock.set_proxy(socks.SOCKS5, host, port, rdns=True)
        with pytest.raises(socks.ProxyError, match="0x02: Connection not allowed by ruleset"):
            sock.connect(("evil.test", origin.port))


def test_python_socks(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    async def ask(host: str) -> str:
        made = Proxy.from_url(f"socks5://{proxy.socks}", rdns=True)
        sock: socket.socket = await made.connect(dest_host=host, dest_port=origin.port)
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(GET)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.decode()

    assert asyncio.run(ask("allowed.test")).endswith("ok from shared\n")
    with pytest.raises(ProxyError, match=NOT_ALLOWED) as refused:
        asyncio.run(ask("evil.test"))
    assert refused.value.error_code == 2


NETCATS = {
    "nc": ["-X", "5", "-x", "{proxy}", "{host}", "{port}"],
    "ncat": ["--proxy-type", "socks5", "--proxy", "{proxy}", "{host}", "{port}"],
}


@pytest.mark.parametrize("program", NETCATS)
def test_netcat(program: str, proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path) -> None:
    def ask(host: str) -> str:
        places = {"proxy": proxy.socks, "host": host, "port": origin.port}
        arguments = [part.format(**places) for part in NETCATS[program]]
        return run([need(program), *arguments], tmp_path, stdin=GET).out

    assert ask("allowed.test").endswith("ok from shared\n")
    mark = origin.recorder.mark()
    assert ask("evil.test") == ""
    assert not origin.recorder.since(mark)
