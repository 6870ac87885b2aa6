"""Behind an upstream proxy: every door takes it, nothing blocked gets there, trouble is told (spec A6; L07, L09)."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from tests.kit.fleet import Fleet
from tests.kit.hooks import API, CANARY, SECRET_VARIABLE
from tests.kit.inner import INNER_DOORS, Inner, InnerDoor, open_tunnel, trusting
from tests.kit.origins import HttpOrigin
from tests.kit.policies import STRICT
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, connect, exchange, get, request
from tests.kit.socks_client import SocksClient
from tests.kit.tcp_origins import BANNER, TcpOrigin, answer_then_listen, banner_first, count_then_answer, echo_bytes
from tests.kit.tls import TestAuthority
from tests.kit.upstream_proxy import IPV6, LOGIN, PASSWORD, PAST, POLICY, UpstreamProxyServer, behind
from tests.kit.websocket import CLOSE, TEXT, read_frame, send_message, upgrade

BASIC = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"

doors = pytest.mark.parametrize("door", [pytest.param(door, id=door.name) for door in INNER_DOORS])


@pytest.fixture(scope="module", params=["http", "https"])
def upstream(request: pytest.FixtureRequest, authority: TestAuthority) -> Iterator[UpstreamProxyServer]:
    tls = authority.server_context("127.0.0.1") if request.param == "https" else None
    with UpstreamProxyServer(LOGIN, tls) as running:
        yield running


@pytest.fixture(scope="module")
def company(
    upstream: UpstreamProxyServer,
    tls_origin: HttpOrigin,
    authority: TestAuthority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """Proxies that are told to go through the upstream proxy."""
    secrets = {SECRET_VARIABLE: CANARY, "SSL_CERT_FILE": str(authority.bundle)}
    running = Fleet(tmp_path_factory.mktemp("company"), tls_origin, behind(upstream, **secrets))
    yield running
    running.close()


@pytest.fixture
def proxy(company: Fleet, fast_path: bool, upstream: UpstreamProxyServer) -> Iterator[ProxyProcess]:
    """A proxy that dials nobody but the upstream proxy, and never sends it a secret."""
    running = company.get(POLICY, fast_path)
    seen = len(running.world.dials())
    yield running
    assert {port for _, port in running.world.dials()[seen:]} <= {upstream.port}
    assert CANARY.encode() not in upstream.recorder.received
    assert PASSWORD not in running.output
    assert BASIC not in running.output


class Asked:
    """What the upstream proxy was asked since."""

    def __init__(self, upstream: UpstreamProxyServer) -> None:
        self._upstream = upstream
        self._before = len(upstream.asked)

    def now(self) -> list[str]:
        return self._upstream.asked[self._before :]


@pytest.fixture
def asked(upstream: UpstreamProxyServer) -> Asked:
    return Asked(upstream)


# -- plain HTTP ------------------------------------------------------------------------------------------------------


def test_plain_requests_are_forwarded(
    proxy: ProxyProcess, origin: HttpOrigin, upstream: UpstreamProxyServer, asked: Asked
) -> None:
    at = f"allowed.test:{origin.port}"
    before, mark = len(origin.requests), upstream.recorder.mark()
    with Client(proxy.http) as client:
        for number in range(3):
            answer = client.ask(get(f"http://{at}/echo?n={number}", "Proxy-Authorization: Basic mine"))
            assert (answer.status, answer.get("via")) == (200, "kit")
    assert asked.now() == [f"GET http://{at}/echo?n={number}" for number in range(3)]
    for head in upstream.requests[-3:]:
        assert head.all("proxy-authorization") == [BASIC], "ours, and nothing of the client's"
        assert head.all("host") == [at]
    assert [head.start for head in origin.requests[before:]] == [f"GET /echo?n={n} HTTP/1.1" for n in range(3)]
    assert len(upstream.recorder.since(mark)) == 1, "the connection is used again"


def test_a_body_arrives(proxy: ProxyProcess, origin: HttpOrigin, asked: Asked) -> None:
    at = f"allowed.test:{origin.port}"
    answer = exchange(proxy.http, request("POST", f"http://{at}/echo", body=b"x" * 70_000))
    assert answer.json()["length"] == 70_000
    assert asked.now() == [f"POST http://{at}/echo"]


def test_an_answer_to_head_has_no_body(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        for _ in range(2):
            assert client.ask(request("HEAD", f"http://allowed.test:{origin.port}/t"), "HEAD").status == 200


def test_a_plain_websocket_takes_a_tunnel(proxy: ProxyProcess, origin: HttpOrigin, asked: Asked) -> None:
    """Also when a connection to the upstream proxy is open that takes requests."""
    at = f"allowed.test:{origin.port}"
    with Client(proxy.http) as client:
        assert client.ask(get(f"http://{at}/t")).status == 200
        assert upgrade(client, f"http://{at}/ws", at).status == 101
        assert read_frame(client.stream) == (TEXT, b"hello")
        send_message(client, b"over there")
        assert read_frame(client.stream) == (TEXT, b"over there")
        send_message(client, b"\x03\xe8", CLOSE)
        assert read_frame(client.stream) == (CLOSE, b"\x03\xe8")
    assert asked.now() == [f"GET http://{at}/t", f"CONNECT {at}"]


# -- tunnels ---------------------------------------------------------------------------------------------------------


def test_a_tunnel_carries_bytes_both_ways(proxy: ProxyProcess, asked: Asked) -> None:
    data = os.urandom(4 << 20)
    with TcpOrigin(echo_bytes) as server, open_tunnel(proxy, f"allowed.test:{server.port}") as client:
        sender = threading.Thread(target=client.send, args=(data,))
        sender.start()
        assert client.stream.exactly(len(data)) == data
        sender.join(10)
    assert asked.now() == [f"CONNECT allowed.test:{server.port}"]


def test_bytes_behind_the_clients_head_are_kept(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        client.send(connect(f"allowed.test:{origin.port}") + b"GET /t HTTP/1.1\r\nHost: inner\r\n\r\n")
        assert client.read("CONNECT").status == 200
        assert client.read().text == "ok from shared\n"


def test_a_server_that_speaks_first(proxy: ProxyProcess) -> None:
    with TcpOrigin(banner_first) as server, open_tunnel(proxy, f"allowed.test:{server.port}") as client:
        assert client.stream.exactly(len(BANNER)) == BANNER
        client.send(b"EHLO client\r\n")
        assert client.stream.exactly(13) == b"EHLO client\r\n"


def test_the_client_may_finish_first(proxy: ProxyProcess) -> None:
    with TcpOrigin(count_then_answer) as server, open_tunnel(proxy, f"allowed.test:{server.port}") as client:
        client.send(bytes(100_000))
        client.finish()
        assert client.stream.rest() == b"100000 bytes"


def test_the_server_may_finish_first(proxy: ProxyProcess) -> None:
    with TcpOrigin(answer_then_listen) as server, open_tunnel(proxy, f"allowed.test:{server.port}") as client:
        assert client.stream.rest() == b"all said"


def test_a_client_that_vanishes_ends_the_far_side(proxy: ProxyProcess) -> None:
    with TcpOrigin(echo_bytes) as server:
        with open_tunnel(proxy, f"allowed.test:{server.port}") as client:
            client.send(b"x")
            assert client.stream.exactly(1) == b"x"
        server.recorder.wait(lambda: server.recorder.connections[0].closed, "the origin's connection closed")


def test_an_ipv6_literal_stands_in_brackets(proxy: ProxyProcess, origin: HttpOrigin, asked: Asked) -> None:
    at = f"[{IPV6}]:{origin.port}"
    assert exchange(proxy.http, get(f"http://{at}/t")).status == 200
    with open_tunnel(proxy, at) as client:
        assert client.ask(b"GET /t HTTP/1.1\r\nHost: x\r\n\r\n").text == "ok from shared\n"
    with SocksClient(proxy.socks) as client:
        assert client.command(IPv6Address(IPV6), origin.port).code == 0
    assert asked.now() == [f"GET http://{at}/t", f"CONNECT {at}", f"CONNECT {at}"]


def test_a_socks_tunnel(proxy: ProxyProcess, asked: Asked) -> None:
    with TcpOrigin(banner_first) as server, SocksClient(proxy.socks) as client:
        assert client.command(b"allowed.test", server.port).code == 0
        assert client.stream.exactly(len(BANNER)) == BANNER
        client.send(b"hello")
        assert client.stream.exactly(5) == b"hello"
    assert asked.now() == [f"CONNECT allowed.test:{server.port}"]


# -- intercepted HTTPS -----------------------------------------------------------------------------------------------


@doors
def test_an_intercepted_request(
    door: InnerDoor, proxy: ProxyProcess, tls_origin: HttpOrigin, upstream: UpstreamProxyServer, asked: Asked
) -> None:
    """The secret passes the upstream proxy inside TLS: the fixture looks for it in everything that came by."""
    before = len(tls_origin.requests)
    outcome = door.send(proxy, f"{API}:{tls_origin.port}".encode(), Inner(b"POST", b"/t", body=b"hello"))
    assert outcome.word == "passed"
    assert [head.get("authorization") for head in tls_origin.requests[before:]] == [f"Bearer {CANARY}"]
    assert [head.get("proxy-authorization") for head in tls_origin.requests[before:]] == [None]
    assert asked.now() == [f"CONNECT {API}:{tls_origin.port}"]


@doors
def test_an_intercepted_request_that_is_blocked(
    door: InnerDoor, proxy: ProxyProcess, tls_origin: HttpOrigin, asked: Asked
) -> None:
    outcome = door.send(proxy, f"{API}:{tls_origin.port}".encode(), Inner(b"DELETE", b"/t"))
    assert outcome.word == "mitm_hook_denied"
    assert not asked.now()


def test_https_in_absolute_form(proxy: ProxyProcess, tls_origin: HttpOrigin, asked: Asked) -> None:
    assert exchange(proxy.http, get(f"https://{API}:{tls_origin.port}/t")).status == 200
    assert asked.now() == [f"CONNECT {API}:{tls_origin.port}"]


def test_an_intercepted_socks_tunnel(proxy: ProxyProcess, tls_origin: HttpOrigin, asked: Asked) -> None:
    with SocksClient(proxy.socks) as client:
        assert client.command(API.encode(), tls_origin.port).code == 0
        client.start_tls(trusting(proxy.ca), API)
        assert client.ask(b"GET /t HTTP/1.1\r\nHost: %b:%d\r\n\r\n" % (API.encode(), tls_origin.port)).status == 200
    assert asked.now() == [f"CONNECT {API}:{tls_origin.port}"]


# -- what does not get there -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["denied.test", "other.example", "10.0.0.1", "169.254.169.254"])
def test_policy_comes_first(host: str, proxy: ProxyProcess, origin: HttpOrigin, asked: Asked, company: Fleet) -> None:
    at = f"{host}:{origin.port}"
    strict = company.get(replace(POLICY, denied=("denied.test",), allow_local_binding=False))
    assert exchange(strict.http, get(f"http://{at}/t")).status == 403
    assert exchange(strict.http, connect(at), "CONNECT").status == 403
    with SocksClient(strict.socks) as client:
        assert client.command(host.encode(), origin.port).code == 2
    assert not asked.now()


def test_no_proxy_goes_past_it(company: Fleet, fast_path: bool, origin: HttpOrigin, asked: Asked) -> None:
    names = ((PAST, (("127.0.0.1",),)),)
    proxy = company.get(replace(POLICY, names=names), fast_path)
    at = f"{PAST}:{origin.port}"
    assert exchange(proxy.http, get(f"http://{at}/t")).text == "ok from shared\n"
    with open_tunnel(proxy, at) as client:
        assert client.ask(b"GET /t HTTP/1.1\r\nHost: x\r\n\r\n").text == "ok from shared\n"
    assert not asked.now()
    assert ("127.0.0.1", origin.port) in proxy.world.dials()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_this_machine_is_reached_directly(host: str, company: Fleet, origin: HttpOrigin, asked: Asked) -> None:
    proxy = company.get(POLICY)
    assert exchange(proxy.http, get(f"http://{host}:{origin.port}/t")).text == "ok from shared\n"
    assert exchange(proxy.http, connect(f"{host}:{origin.port}"), "CONNECT").status == 200
    assert not asked.now()


# -- names -----------------------------------------------------------------------------------------------------------

ANSWERS = (("public.test", (("93.184.216.34",),)), ("private.test", (("10.0.0.1",),)))


def test_what_is_looked_up(company: Fleet, fast_path: bool, origin: HttpOrigin, asked: Asked) -> None:
    proxy = company.get(replace(STRICT, allowed=("*.test",), denied=(), pins=(), names=ANSWERS), fast_path)
    assert exchange(proxy.http, connect(f"public.test:{origin.port}"), "CONNECT").status == 200
    assert exchange(proxy.http, get(f"http://unknown.test:{origin.port}/t")).status == 200
    assert exchange(proxy.http, connect(f"private.test:{origin.port}"), "CONNECT").status == 403
    assert asked.now() == [f"CONNECT public.test:{origin.port}", f"GET http://unknown.test:{origin.port}/t"]
    assert list(dict.fromkeys(proxy.world.lookups())) == ["public.test", "unknown.test", "private.test"]
    assert "93.184.216.34" not in {host for host, _ in proxy.world.dials()}
    events = proxy.audit_events(1, lambda event: event["server.address"] == "public.test")
    assert "network.peer.address" not in events[0], "it was not dialled"


def test_nothing_is_looked_up_when_addresses_do_not_matter(
    company: Fleet, fast_path: bool, origin: HttpOrigin, asked: Asked
) -> None:
    policy = replace(STRICT, allowed=("*.test",), denied=("denied.test",), allow_local_binding=True, pins=())
    proxy = company.get(policy, fast_path)
    assert exchange(proxy.http, connect(f"private.test:{origin.port}"), "CONNECT").status == 200
    assert exchange(proxy.http, get(f"http://unknown.test:{origin.port}/t")).status == 200
    assert exchange(proxy.http, get(f"http://denied.test:{origin.port}/t")).status == 403
    assert len(asked.now()) == 2
    assert proxy.world.lookups() == []
