"""Class I: the SOCKS5 handshake byte for byte, both protocols on the wrong port, and what limited mode does."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from tests.kit.answers import check_refusal
from tests.kit.doors import DOORS, SOCKS, SOCKS_ADDRESS, Door
from tests.kit.fleet import Fleet
from tests.kit.hooks import API, READ_ONLY
from tests.kit.origins import HttpOrigin
from tests.kit.policies import LIMITED, OPEN, STRICT, Policy
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, connect, get
from tests.kit.socks_client import GRANTED, GREETING, SocksClient, socks_request

from .rows_socks import GREETINGS, REQUESTS, SocksRow

steps = pytest.mark.parametrize("step", [None, 1, 3], ids=["at once", "byte by byte", "in pieces"])
GET = b"GET /t HTTP/1.1\r\nHost: inner.test\r\n\r\n"


def rows(table: Sequence[SocksRow]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table])


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


@rows((*GREETINGS, *REQUESTS))
@steps
def test_i01_refused(row: SocksRow, step: int | None, fleet: Fleet, origin: HttpOrigin) -> None:
    proxy, mark = fleet.get(row.policy), origin.recorder.mark()
    lookups = len(proxy.world.lookups())
    with SocksClient(proxy.socks) as client:
        send_until_cut(client, row.sent.replace(b"{port}", origin.port.to_bytes(2)), step)
        assert client.stream.exactly(len(row.said)) == row.said
        if row.code is not None:
            assert client.reply().code == row.code
        assert client.ended()
        assert not proxy.settled_events(lambda event: event["client.address"] == client.address)
    assert not origin.recorder.since(mark)
    assert len(proxy.world.lookups()) == lookups


def send_until_cut(client: Client, data: bytes, step: int | None) -> None:
    """The proxy may close while we still send."""
    with contextlib.suppress(ConnectionError):
        client.send(data, step)


@steps
@pytest.mark.parametrize("methods", [b"\x00", b"\x01\x02\x00", bytes(range(255))], ids=["one", "three", "255"])
def test_i01_granted(methods: bytes, step: int | None, proxy: ProxyProcess, origin: HttpOrigin) -> None:
    """However the bytes come, and with those for the origin in the same packet."""
    mark = origin.recorder.mark()
    with SocksClient(proxy.socks) as client:
        greeting = bytes((5, len(methods))) + methods
        client.send(greeting + socks_request(b"allowed.test", origin.port) + GET, step)
        assert client.stream.exactly(2) == GRANTED
        reply = client.reply()
        assert (reply.code, reply.address) == (0, ip_address("127.0.0.1"))
        (arrived,) = origin.recorder.since(mark)
        assert arrived.peer == f"127.0.0.1:{reply.port}", "the address that the origin sees"
        assert client.read().text == "ok from shared\n"


def test_i01_the_end_in_the_middle(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    """Half a handshake is nothing: no decision, no dial, and the place is free again."""
    whole, mark = GREETING + socks_request(b"allowed.test", origin.port), origin.recorder.mark()
    for count in range(len(whole)):
        with SocksClient(proxy.socks) as client:
            client.send(whole[:count])
            client.finish()
            assert client.stream.rest() in (b"", GRANTED)
    assert not origin.recorder.since(mark)


def test_a_refused_client_has_no_second_try(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    """What comes behind a refused request is not read as another one."""
    mark = origin.recorder.mark()
    with SocksClient(proxy.socks) as client:
        client.send(GREETING + socks_request(b"evil.test", origin.port) + socks_request(b"allowed.test", origin.port))
        assert client.stream.exactly(2) == GRANTED
        assert client.reply().code == 2
        assert client.ended()
        (event,) = proxy.settled_events(lambda event: event["client.address"] == client.address)
    assert event["server.address"] == "evil.test"
    assert not origin.recorder.since(mark)


def test_i10_http_at_the_socks_port_is_told_so(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    mark = origin.recorder.mark()
    for head in (get(f"http://allowed.test:{origin.port}/t"), connect(f"allowed.test:{origin.port}"), b"POST / "):
        with Client(proxy.socks) as client:
            client.send(head)
            answer = client.read()
            check_refusal(answer)
            assert "SOCKS5" in answer.text
            assert client.ended()
    assert not origin.recorder.since(mark)


@pytest.mark.parametrize("first", [GREETING, b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00"], ids=["version 5", "version 4"])
def test_i10_socks_at_the_http_port_is_told_so(first: bytes, proxy: ProxyProcess) -> None:
    with Client(proxy.http) as client:
        client.send(first)
        answer = client.read()
        check_refusal(answer)
        assert answer.text == "this port speaks HTTP/1.1 only"
        assert client.ended()


# -- limited mode: a tunnel can write, so there is none ---------------------------------------------------------------

UNREAD = [
    pytest.param(LIMITED, "allowed.test", "method_not_allowed", id="an allowed host"),
    pytest.param(LIMITED, "127.0.0.1", "not_allowed", id="an address that is not listed"),
    pytest.param(LIMITED, "evil.test", "not_allowed", id="a host that is not listed"),
    pytest.param(LIMITED, "denied.test", "denied", id="a denied host"),
]


@pytest.mark.parametrize(("policy", "host", "reason"), UNREAD)
def test_i04_limited_mode_has_no_tunnels(
    policy: Policy, host: str, reason: str, fleet: Fleet, origin: HttpOrigin, fast_path: bool
) -> None:
    proxy, mark = fleet.get(policy, fast_path), origin.recorder.mark()
    outcome = SOCKS.ask(proxy, host.encode(), b"%d" % origin.port)
    assert outcome.word == reason
    (*passed, denied) = proxy.events_of(outcome.request_id)
    assert denied["network.transport.protocol"] == "socks5_tcp"
    if reason == "method_not_allowed":
        assert [event["network.policy.decision"] for event in passed] == ["allow"], "the host was right, the use is not"
        assert (denied["network.policy.scope"], denied["network.policy.source"]) == ("non_domain", "mode_guard")
    assert not origin.recorder.since(mark)


def test_i04_limited_mode_reads_no_tunnel_of_socks_either(inspected: Fleet, tls_origin: HttpOrigin) -> None:
    """Where HTTPS is read, a hooked host is still reached by CONNECT only."""
    proxy, mark = inspected.get(READ_ONLY), tls_origin.recorder.mark()
    for host in (API, "allowed.test"):
        assert SOCKS.ask(proxy, host.encode(), b"%d" % tls_origin.port).word == "method_not_allowed"
    assert not tls_origin.recorder.since(mark)


@pytest.mark.parametrize("door", [SOCKS, SOCKS_ADDRESS], ids=lambda door: door.name)
def test_the_proxy_is_no_way_to_itself(door: Door, fleet: Fleet, fast_path: bool) -> None:
    """Also where loopback is open: neither listener is ever dialled."""
    proxy = fleet.get(Policy(allowed=("127.0.0.1", "::1"), allow_local_binding=True), fast_path)
    for address in (proxy.http, proxy.socks):
        port = address.rpartition(":")[2].encode()
        assert door.ask(proxy, b"127.0.0.1", port).word == "not_allowed_local"
    assert not proxy.world.dials()


def test_no_door_reaches_the_socks_port(fleet: Fleet) -> None:
    proxy = fleet.get(Policy(allowed=("127.0.0.1", "::1"), allow_local_binding=True))
    port = proxy.socks.rpartition(":")[2].encode()
    assert {door.ask(proxy, b"127.0.0.1", port).word for door in DOORS} == {"not_allowed_local"}


def test_a_denial_is_all_the_same_on_the_wire(fleet: Fleet, origin: HttpOrigin) -> None:
    """Who asks learns that it is not allowed, and nothing of the lists."""
    answers = set()
    for policy, host in ((OPEN, b"evil.test"), (OPEN, b"denied.test"), (STRICT, b"allowed.test"), (OPEN, b"a b")):
        with SocksClient(fleet.get(policy).socks) as client:
            client.send(GREETING + socks_request(host, origin.port))
            answers.add(client.stream.rest())
    assert answers == {GRANTED + b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"}
