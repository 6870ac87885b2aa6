"""Many requests inside intercepted tunnels: one after the other, in streams, and of many clients, each judged apart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kit.fleet import Fleet
from tests.kit.h2_client import get as h2_get
from tests.kit.hooks import API, CANARY, GITHUB_READ, OTHER
from tests.kit.inner import INNER_DOORS, Inner, enter, enter_h2, http1_bytes
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import ProxyProcess


@pytest.fixture
def proxy(inspected: Fleet, fast_path: bool) -> ProxyProcess:
    return inspected.get(GITHUB_READ, fast_path)


def test_many_requests_on_one_connection(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    target, mark = f"{OTHER}:{tls_origin.port}", tls_origin.recorder.mark()
    with enter(proxy, target) as client:
        for turn in range(20):
            path = b"/t" if turn % 3 else b"/no"
            assert client.ask(http1_bytes(target.encode(), Inner(path=path))).status == (200 if turn % 3 else 403)
    (connection,) = tls_origin.recorder.since(mark)
    assert len(connection.heads) == 13
    assert all(head.count(CANARY.encode()) == 1 for head in connection.heads)


def test_streams_of_one_connection_are_judged_apart(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    target, mark = f"{OTHER}:{tls_origin.port}", tls_origin.recorder.mark()
    client = enter_h2(proxy, target)
    paths = ["/t", "/no", "/echo", "/t?x", "/../t"]
    streams = [client.start(h2_get(target, path)) for path in paths]
    assert [client.wait(stream).status for stream in reversed(streams)] == [403, 200, 200, 403, 200]
    mismatch = client.ask(h2_get("evil.test", "/t"))
    assert (mismatch.status, mismatch.text) == (400, "host mismatch")
    assert client.ask(h2_get(target, "/t")).status == 200, "the connection goes on"
    client.client.sock.close()
    heads = b"".join(b"".join(connection.heads) for connection in tls_origin.recorder.since(mark))
    assert (heads.count(b"GET /"), heads.count(CANARY.encode())) == (4, 4)


def test_a_hundred_streams_at_once_are_judged_apart(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    target, mark = f"{OTHER}:{tls_origin.port}", tls_origin.recorder.mark()
    client = enter_h2(proxy, target)
    with client.client:
        kinds = [(number % 3, f"/{'no' if number % 3 == 0 else 'echo'}?n={number}") for number in range(90)]
        streams = [
            client.start(h2_get(target, path, method="POST" if kind == 2 else "GET"), end=kind != 2)
            for kind, path in kinds
        ]
        for (kind, _), stream in zip(kinds, streams, strict=True):
            if kind == 2:
                client.send_body(stream, b"x" * 5000)
        for (kind, path), stream in zip(kinds, streams, strict=True):
            answer = client.wait(stream)
            assert answer.status == (403 if kind == 0 else 200)
            assert kind == 0 or (answer.json()["target"], answer.json()["length"]) == (path, 5000 if kind == 2 else 0)
    heads = [head for connection in tls_origin.recorder.since(mark) for head in connection.heads]
    assert len(heads) == 60
    assert not any(b"/no" in head for head in heads)


def test_many_clients_at_once_each_get_their_own_answer(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    def ask(number: int) -> bool:
        host = (API, OTHER)[number % 2]
        target, path = f"{host}:{tls_origin.port}".encode(), f"/echo?n={number}".encode()
        outcome = INNER_DOORS[number // 2 % 2].send(proxy, target, Inner(path=path))
        if host == API:
            return outcome.word == "mitm_hook_denied"
        return outcome.word == "passed" and outcome.answer.json()["target"] == path.decode()

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(ask, range(100)))


def test_a_refused_stream_does_not_stop_an_upload_on_another(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    target = f"{OTHER}:{tls_origin.port}"
    client = enter_h2(proxy, target)
    upload = client.start((*h2_get(target, "/echo", method="POST"), (b"content-length", b"200000")), end=False)
    client.send_body(upload, bytes(100_000), end=False)
    assert client.ask(h2_get(target, "/no")).status == 403
    client.send_body(upload, bytes(100_000))
    assert client.wait(upload).json()["length"] == 200_000
    client.client.sock.close()
