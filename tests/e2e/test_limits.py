"""What a client may cost: the size and time of a head, and how many connections."""

from __future__ import annotations

import time

import pytest

from tests.kit.answers import check_refusal
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, connect, exchange, get, request

HEAD_LIMIT = 64 * 1024
HEAD_DEADLINE = 10.0
MOST_CONNECTIONS = 4096


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


def padded(head: bytes, size: int) -> bytes:
    """The head with a field that brings it to `size` bytes."""
    before = head.removesuffix(b"\r\n") + b"X-Pad: "
    return before + b"a" * (size - len(before) - 4) + b"\r\n\r\n"


def test_a_head_just_within_the_limit_passes(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    mark, seen = origin.recorder.mark(), origin.recorder.connections
    for head, method in (
        (get(f"http://allowed.test:{origin.port}/t"), "GET"),
        (connect(f"allowed.test:{origin.port}"), "CONNECT"),
    ):
        assert exchange(proxy.http, padded(head, HEAD_LIMIT), method).status == 200
    # The kernel connects before the origin's thread notes it; the next test must not find it.
    origin.recorder.wait(lambda: len(seen) >= mark + 2, "both connections")


@pytest.mark.parametrize("more", [1, 1 << 20], ids=["one byte", "a mebibyte"])
def test_a_head_beyond_the_limit_is_refused(more: int, proxy: ProxyProcess, origin: HttpOrigin) -> None:
    mark = origin.recorder.mark()
    for head in (get(f"http://allowed.test:{origin.port}/t"), connect(f"allowed.test:{origin.port}")):
        with Client(proxy.http) as client:
            try:
                client.send(padded(head, HEAD_LIMIT + more))
            except ConnectionError:
                continue  # It closed while we were still sending.
            check_refusal(client.read(), 431)
            assert client.ended()
    assert not origin.recorder.since(mark)


def test_a_head_without_an_end_is_not_kept(proxy: ProxyProcess) -> None:
    before = proxy.resident()
    with Client(proxy.http) as client:
        assert refused(client, 64)
    assert proxy.resident() - before < 16 << 20


def refused(client: Client, mebibytes: int) -> bool:
    """Whether the proxy closes while the target of a GET goes on and on."""
    try:
        client.send(b"GET http://allowed.test/")
        for _ in range(mebibytes):
            client.send(b"a" * (1 << 20))
        return client.read().status == 431 and client.ended()
    except ConnectionError:
        return True


def test_a_slow_head_is_cut(fleet: Fleet) -> None:
    """At the door, and also on a connection that has been of use before."""
    proxy = fleet.get(OPEN)
    started = time.monotonic()
    with Client(proxy.http, timeout=15) as first, Client(proxy.http, timeout=15) as second:
        assert second.ask(request("GET", "http://denied.test/")).status == 403
        for client in (first, second):
            client.send(b"GET http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n")
        for client in (first, second):
            answer = client.read()
            check_refusal(answer, 408)
            assert client.ended()
    assert HEAD_DEADLINE - 1 < time.monotonic() - started < HEAD_DEADLINE + 4


def test_connections_beyond_the_cap_are_told_so(fleet: Fleet, origin: HttpOrigin) -> None:
    proxy = fleet.get(OPEN)
    held: list[Client] = []
    try:
        for _ in range(MOST_CONNECTIONS + 8):
            held.append(Client(proxy.http))
        answer = held[-1].ask(get(f"http://allowed.test:{origin.port}/t"))
        check_refusal(answer, 503)
        assert held[-1].ended()
        assert held[0].ask(get(f"http://allowed.test:{origin.port}/t")).status == 200, "those inside are served"
    finally:
        for client in held:
            client.sock.close()
    assert "Traceback" not in proxy.output
    proxy.until(lambda: served(proxy, origin), "places that are free again")


def served(proxy: ProxyProcess, origin: HttpOrigin) -> bool:
    return exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).status == 200


def test_f11_a_denied_client_is_not_told_to_go_on(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    mark = origin.recorder.mark()
    with Client(proxy.http) as client:
        url = f"http://denied.test:{origin.port}/t"
        fields = ("Expect: 100-continue", "Content-Length: 1000000")
        answer = client.ask(request("POST", url, *fields), "POST")
        assert (answer.interim, answer.status) == ((), 403)
    assert not origin.recorder.since(mark)


def test_an_allowed_client_is_told_to_go_on(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        client.send(
            request("POST", f"http://allowed.test:{origin.port}/echo", "Expect: 100-continue", "Content-Length: 5")
        )
        assert client.stream.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.send(b"hello")
        assert client.read().json()["length"] == 5


def test_f13_a_denied_upload_is_answered_at_once(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    """Fifty megabytes announced, a little sent: the answer does not wait for the rest."""
    mark = origin.recorder.mark()
    before = proxy.resident()
    with Client(proxy.http) as client:
        client.send(request("POST", f"http://denied.test:{origin.port}/t", f"Content-Length: {50 << 20}"))
        client.send(bytes(200_000))
        answer = client.read()
        assert (answer.status, answer.get("x-proxy-error")) == (403, "blocked-by-denylist")
        assert answer.json()["reason"] == "denied"
    assert proxy.resident() - before < 16 << 20
    assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).status == 200
    assert len(origin.recorder.since(mark)) == 1


def test_f13_the_answer_survives_a_client_that_sends_on(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    """The client reads only after it has sent everything: closing too early would cost it the answer."""
    with Client(proxy.http) as client:
        body = bytes(2_000_000)
        client.send(request("POST", f"http://denied.test:{origin.port}/t", body=body))
        assert client.read().status == 403
    assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).status == 200
