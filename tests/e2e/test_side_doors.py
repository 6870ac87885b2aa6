"""A hooked host has one door. Every other way to it is closed, or leads past the same hooks (spec A4.1, A4.3, A4.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kit.answers import check_json_block, check_refusal, check_text_block
from tests.kit.doors import SOCKS
from tests.kit.fleet import Fleet
from tests.kit.h2_client import get as h2_get
from tests.kit.hooks import API, CANARY, HOOKED, HOOKED_UNREAD, HOOKS, RAW, READ_ONLY, inspecting
from tests.kit.inner import (
    EVERY_INNER_DOOR,
    OPENERS,
    Inner,
    InnerDoor,
    Opener,
    Refused,
    enter,
    enter_h2,
    http1_bytes,
)
from tests.kit.origins import HttpOrigin
from tests.kit.policies import Policy
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import connect, exchange, get, request
from tests.kit.server import RecordingStream
from tests.kit.tcp_origins import TcpOrigin
from tests.kit.tls import TestAuthority

WITHOUT_LITERALS = inspecting(*HOOKS, allowed=("**.test",))
doors = pytest.mark.parametrize("door", [pytest.param(door, id=door.name) for door in EVERY_INNER_DOOR])
openers = pytest.mark.parametrize("opener", [pytest.param(opener, id=name) for name, opener in OPENERS.items()])


@pytest.fixture
def proxy(inspected: Fleet, fast_path: bool) -> ProxyProcess:
    return inspected.get(HOOKED, fast_path)


@pytest.fixture
def unseen(origin: HttpOrigin, tls_origin: HttpOrigin) -> Iterator[None]:
    """Neither origin, in clear or behind TLS, may get a request."""
    origins = (origin, tls_origin)
    marks = [one.recorder.mark() for one in origins]
    yield
    for one, mark in zip(origins, marks, strict=True):
        assert not any(connection.heads for connection in one.recorder.since(mark))


@dataclass(frozen=True, slots=True)
class Side:
    """Bytes to the proxy's port, and the reason of the block. `{clear}` and `{tls}` are the origins' ports."""

    id: str
    request: bytes
    reason: str = "mitm_required"
    policy: Policy = HOOKED


def plain(id: str, url: str, *fields: str, reason: str = "mitm_required", method: str = "GET") -> Side:
    return Side(id, request(method, url, *fields), reason)


SIDES = [
    plain("in clear", f"http://{API}:{{clear}}/repos/x"),
    plain("in clear with a method of the hook", f"http://{API}:{{clear}}/repos/x", method="POST"),
    plain("in clear to the port of HTTPS", f"http://{API}:{{tls}}/repos/x"),
    plain("in clear to port 80", f"http://{API}/repos/x"),
    plain("in clear to port 443", f"http://{API}:443/repos/x"),
    plain("in clear with capitals and a final dot", f"http://{API.upper()}.:{{clear}}/repos/x"),
    plain("in clear with a WebSocket", f"http://{API}:{{clear}}/ws", "Connection: Upgrade", "Upgrade: websocket",
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"),
    Side("in clear in origin form", f"GET /repos/x HTTP/1.1\r\nHost: {API}:{{clear}}\r\n\r\n".encode()),
    plain("https in absolute form, past the hooks", f"https://{API}:{{tls}}/evil", reason="mitm_hook_denied"),
    plain("https in absolute form to another port", f"https://{API}:1/evil", reason="mitm_hook_denied"),
    plain("https in absolute form with another method", f"https://{API}:{{tls}}/repos/x", method="DELETE",
          reason="mitm_hook_denied"),
    plain("https in absolute form with a traversal", f"https://{API}:{{tls}}/repos/../evil", reason="mitm_hook_denied"),
    plain("https in absolute form in capitals", f"https://{API.upper()}:{{tls}}/evil", reason="mitm_hook_denied"),
]  # fmt: skip


def with_ports(data: bytes, origin: HttpOrigin, tls_origin: HttpOrigin) -> bytes:
    return data.replace(b"{clear}", b"%d" % origin.port).replace(b"{tls}", b"%d" % tls_origin.port)


@pytest.mark.parametrize("side", [pytest.param(side, id=side.id) for side in SIDES])
@pytest.mark.usefixtures("unseen")
def test_g14_blocked(side: Side, proxy: ProxyProcess, origin: HttpOrigin, tls_origin: HttpOrigin) -> None:
    answer = exchange(proxy.http, with_ports(side.request, origin, tls_origin), side.request.split(b" ")[0].decode())
    check_json_block(answer, side.reason, API)


MISMATCHES = [
    pytest.param("http://127.0.0.1:{clear}/repos/x", id="its address in clear"),
    pytest.param("https://127.0.0.1:{tls}/repos/x", id="its address"),
    pytest.param(f"https://{RAW}:{{tls}}/repos/x", id="another host"),
    pytest.param("http://[::1]:{clear}/repos/x", id="an IPv6 address in clear"),
]


@pytest.mark.parametrize("url", MISMATCHES)
@pytest.mark.usefixtures("unseen")
def test_g14_its_name_in_host_alone_leads_nowhere(
    url: str, proxy: ProxyProcess, origin: HttpOrigin, tls_origin: HttpOrigin
) -> None:
    head = f"GET {url} HTTP/1.1\r\nHost: {API}:{{tls}}\r\n\r\n".encode()
    answer = exchange(proxy.http, with_ports(head, origin, tls_origin))
    check_refusal(answer)
    assert answer.text == "Host header does not match request target"


@openers
@pytest.mark.usefixtures("unseen")
def test_g14_its_address_is_no_way_around(opener: Opener, inspected: Fleet, tls_origin: HttpOrigin) -> None:
    """Who does not list the address has closed it."""
    proxy = inspected.get(WITHOUT_LITERALS)
    with pytest.raises(Refused) as refused:
        opener(proxy, f"127.0.0.1:{tls_origin.port}")
    assert refused.value.outcome.word == "not_allowed"


@pytest.mark.usefixtures("unseen")
def test_its_name_inside_a_tunnel_to_its_address_is_a_mismatch(inspected: Fleet, tls_origin: HttpOrigin) -> None:
    proxy, at = inspected.get(READ_ONLY), f"127.0.0.1:{tls_origin.port}"
    with enter(proxy, at) as client:
        answer = client.ask(http1_bytes(f"{API}:{tls_origin.port}".encode(), Inner(path=b"/repos/x")))
    assert (answer.status, answer.text) == (400, "host mismatch")


@doors
@pytest.mark.parametrize("name", [API, API.upper(), API + "."], ids=["as it is", "in capitals", "with a final dot"])
def test_g14_every_port_and_spelling_is_intercepted(
    name: str, door: InnerDoor, proxy: ProxyProcess, authority: TestAuthority
) -> None:
    with HttpOrigin("other port", tls=authority.server_context(API)) as server:
        target = f"{name}:{server.port}".encode()
        assert door.send(proxy, target, Inner(path=b"/evil")).word == "mitm_hook_denied"
        assert not server.recorder.connections
        assert door.send(proxy, target, Inner(path=b"/repos/x")).word == "404"
        assert CANARY.encode() in server.recorder.received


@doors
def test_an_origin_without_tls_gets_no_secret(door: InnerDoor, proxy: ProxyProcess) -> None:
    def refuse(stream: RecordingStream) -> None:
        stream.some()
        stream.sock.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    with TcpOrigin(refuse) as server:
        outcome = door.send(proxy, f"{API}:{server.port}".encode(), Inner(path=b"/repos/x"))
    assert outcome.word == "failed", outcome
    assert outcome.answer.text == "upstream failure: the TLS handshake with the origin failed"
    assert server.recorder.received.startswith(b"\x16\x03")
    assert CANARY.encode() not in server.recorder.received


@openers
@pytest.mark.usefixtures("unseen")
def test_d07_a_tunnel_without_tls_is_cut(opener: Opener, proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    with opener(proxy, f"{API}:{tls_origin.port}") as client:
        client.send(b"POST /repos/x HTTP/1.1\r\nHost: %b:%d\r\n\r\n" % (API.encode(), tls_origin.port))
        assert client.ended()


@openers
def test_the_second_request_of_a_tunnel_is_judged_anew(
    opener: Opener, proxy: ProxyProcess, tls_origin: HttpOrigin
) -> None:
    target = f"{API}:{tls_origin.port}".encode()
    with enter(proxy, target, opener=opener) as client:
        assert client.ask(http1_bytes(target, Inner(path=b"/repos/x"))).status == 200
        check_text_block(client.ask(http1_bytes(target, Inner(path=b"/evil"))), "mitm_hook_denied")
        other = http1_bytes(target, Inner(path=b"/repos/x", authority=b"evil.test"))
        assert client.ask(other).text == "host mismatch"


@openers
def test_streams_to_another_authority_are_a_mismatch(
    opener: Opener, proxy: ProxyProcess, tls_origin: HttpOrigin
) -> None:
    target = f"{API}:{tls_origin.port}"
    client = enter_h2(proxy, target, opener)
    with client.client:
        assert client.ask(h2_get(target, "/repos/x")).status == 200
        for authority in (f"{RAW}:{tls_origin.port}", "evil.test", f"{API}:1", API):
            answer = client.ask(h2_get(authority, "/repos/x"))
            assert (answer.status, answer.text) == (400, "host mismatch"), authority


# -- without interception ---------------------------------------------------------------------------------------------

OFF_LIMITED = inspecting(*HOOKS, mitm=False, mode="limited")


@pytest.mark.usefixtures("unseen")
def test_g16_hooks_without_interception_close_the_host(
    inspected: Fleet, origin: HttpOrigin, tls_origin: HttpOrigin
) -> None:
    proxy = inspected.get(HOOKED_UNREAD)
    check_text_block(exchange(proxy.http, connect(f"{API}:{tls_origin.port}"), "CONNECT"), "mitm_required")
    for url in (f"http://{API}:{origin.port}/repos/x", f"https://{API}:{tls_origin.port}/repos/x"):
        check_json_block(exchange(proxy.http, get(url)), "mitm_required", API)
    assert "mitm" in "".join(line for line in proxy.output.splitlines() if "WARNING" in line)


@pytest.mark.usefixtures("unseen")
def test_g16_hooks_without_interception_close_the_host_to_socks(
    inspected: Fleet, tls_origin: HttpOrigin, fast_path: bool
) -> None:
    proxy = inspected.get(HOOKED_UNREAD, fast_path)
    outcome = SOCKS.ask(proxy, API.encode(), b"%d" % tls_origin.port)
    assert outcome.word == "mitm_required"
    passed, denied = proxy.events_of(outcome.request_id, 2)
    assert passed["network.policy.decision"] == "allow", "the host is right, the use is not"
    assert (denied["network.policy.scope"], denied["network.policy.source"]) == ("non_domain", "mode_guard")
    assert denied["network.transport.protocol"] == "socks5_tcp"


def test_g16_other_hosts_are_open_without_interception(inspected: Fleet, tls_origin: HttpOrigin) -> None:
    assert exchange(inspected.get(HOOKED_UNREAD).http, connect(f"{RAW}:{tls_origin.port}"), "CONNECT").status == 200


@pytest.mark.parametrize("host", [API, RAW, "127.0.0.1"])
@pytest.mark.usefixtures("unseen")
def test_d10_limited_mode_without_interception_has_no_tunnels(
    host: str, inspected: Fleet, tls_origin: HttpOrigin, fast_path: bool
) -> None:
    proxy = inspected.get(OFF_LIMITED, fast_path)
    check_text_block(exchange(proxy.http, connect(f"{host}:{tls_origin.port}"), "CONNECT"), "mitm_required")


def test_a_denied_host_is_denied_before_interception_is_missed(inspected: Fleet) -> None:
    proxy = inspected.get(OFF_LIMITED)
    check_text_block(exchange(proxy.http, connect("denied.test:443"), "CONNECT"), "denied")
