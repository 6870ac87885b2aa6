"""Many requests on one connection: each is judged by itself, and answers stay in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.kit.answers import check_json_block, check_text_block
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, connect, get, request


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


@pytest.fixture
def second() -> Iterator[HttpOrigin]:
    with HttpOrigin("second") as running:
        yield running


def test_f05_hosts_mix_on_one_connection(proxy: ProxyProcess, origin: HttpOrigin, second: HttpOrigin) -> None:
    mark = origin.recorder.mark()
    with Client(proxy.http) as client:
        for _ in range(3):
            assert client.ask(get(f"http://allowed.test:{origin.port}/t")).text == "ok from shared\n"
            check_json_block(client.ask(get(f"http://denied.test:{origin.port}/t")), "denied", "denied.test")
            assert client.ask(get(f"http://a.sub.test:{second.port}/t")).text == "ok from second\n"
            check_json_block(client.ask(get(f"http://evil.test:{second.port}/t")), "not_allowed", "evil.test")
    heads = [head for connection in origin.recorder.since(mark) for head in connection.heads]
    assert all(b"denied" not in head for head in heads)
    assert len(heads) == 3


def test_f05_pipelined_requests_are_answered_in_order(
    proxy: ProxyProcess, origin: HttpOrigin, second: HttpOrigin
) -> None:
    one = get(f"http://allowed.test:{origin.port}/t") + get(f"http://evil.test:{origin.port}/t")
    two = get(f"http://b.sub.test:{second.port}/t") + get(f"http://denied.test:{second.port}/t")
    with Client(proxy.http) as client:
        client.send((one + two) * 3)
        for _ in range(3):
            assert client.read().text == "ok from shared\n"
            check_json_block(client.read(), "not_allowed", "evil.test")
            assert client.read().text == "ok from second\n"
            check_json_block(client.read(), "denied", "denied.test")
    assert len(second.recorder.heads) == 3


def test_pipelined_bodies_do_not_run_into_each_other(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        first = request("POST", f"http://allowed.test:{origin.port}/echo", body=b"a" * 10)
        denied = request("POST", f"http://denied.test:{origin.port}/echo", body=b"GET http://x/ HTTP/1.1\r\n\r\n")
        client.send(first + denied + get(f"http://allowed.test:{origin.port}/t"))
        assert client.read().json()["length"] == 10
        check_json_block(client.read(), "denied")
        assert b"http://x/" not in client.stream.buffer
        assert client.ended() or client.read().text == "ok from shared\n", "closing after a refused body is as good"


def test_requests_go_upstream_in_origin_form(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    at = f"allowed.test:{origin.port}"
    with Client(proxy.http) as client:
        seen = client.ask(get(f"http://{at}/echo?a=%20b&c=//d")).json()
        assert seen["target"] == "/echo?a=%20b&c=//d"
        assert [value for name, value in seen["headers"] if name.lower() == "host"] == [at]
        client.ask(f"GET http://ALLOWED.test.:{origin.port}/echo HTTP/1.1\r\nHost: {at}\r\n\r\n".encode())
    assert f"\r\nHost: {at}\r\n".encode().lower() in origin.recorder.heads[-1].lower(), "the canonical name"


def test_origin_form_is_routed_by_host(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        allowed = client.ask(f"GET /t HTTP/1.1\r\nHost: allowed.test:{origin.port}\r\n\r\n".encode())
        assert allowed.text == "ok from shared\n"
        denied = client.ask(f"GET /t HTTP/1.1\r\nHost: denied.test:{origin.port}\r\n\r\n".encode())
        check_json_block(denied, "denied", "denied.test", origin.port)


def test_a_refused_tunnel_leaves_the_connection_usable(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        check_text_block(client.ask(connect(f"denied.test:{origin.port}"), "CONNECT"), "denied")
        check_text_block(client.ask(connect(f"evil.test:{origin.port}"), "CONNECT"), "not_allowed")
        assert client.ask(get(f"http://allowed.test:{origin.port}/t")).status == 200
        assert client.ask(connect(f"allowed.test:{origin.port}"), "CONNECT").status == 200
        assert client.ask(b"GET /t HTTP/1.1\r\nHost: x\r\n\r\n").text == "ok from shared\n"


def test_http_1_0_closes(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        assert client.ask(get(f"http://allowed.test:{origin.port}/t", version="HTTP/1.0")).text == "ok from shared\n"
        assert client.ended()


def test_connection_close_is_honoured(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        assert client.ask(get(f"http://allowed.test:{origin.port}/t", "Connection: close")).status == 200
        assert client.ended()


def test_c04_a_name_that_moves_is_judged_anew(fleet: Fleet, fast_path: bool, origin: HttpOrigin) -> None:
    """The first answer is fine, later ones are not: what was not checked is never dialled."""
    moving = ("moves.test", (("127.0.0.1",), ("169.254.169.254",)))
    proxy = fleet.get(replace(OPEN, allowed=("moves.test",), names=(moving,)), fast_path)
    url = f"http://moves.test:{origin.port}/t"
    with Client(proxy.http) as client:
        words = [client.ask(get(url)).status for _ in range(3)]
    assert words[0] == 200
    assert set(words) <= {200, 403}
    assert {address for address, _ in proxy.world.dials()} == {"127.0.0.1"}
