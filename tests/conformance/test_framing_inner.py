"""Classes F01 to F05 inside an intercepted tunnel: a request begins and ends there as strictly as at the door."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.answers import check_refusal
from tests.kit.fleet import Fleet
from tests.kit.inner import Inner, enter, http1_bytes
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client

from .rows import RawRow, each
from .rows_framing import BAD_CHUNKS, CODINGS, FIELDS, LENGTHS, LINES
from .rows_inner import FULL
from .test_raw import answer_to, refused_or_cut

HOST = "any.allowed.test"


def inside(row: RawRow) -> RawRow:
    """The row with its target in the form that is used inside a tunnel."""
    return replace(row, request=row.request.replace(b" http://{at}/", b" /").replace(b" http:/{at}/t ", b" t "))


def in_form(rows: tuple[RawRow, ...]) -> list[RawRow]:
    """Rows about schemes and about other protocols than HTTP have their own elsewhere."""
    return [inside(row) for row in rows if b"://" not in inside(row).request and row.id[:3] != "F09"]


@pytest.fixture
def proxy(inspected: Fleet) -> ProxyProcess:
    return inspected.get(FULL)


def filled(row: RawRow, origin: HttpOrigin) -> bytes:
    return row.request.replace(b"{at}", f"{HOST}:{origin.port}".encode())


def a_good_request(origin: HttpOrigin) -> bytes:
    return http1_bytes(f"{HOST}:{origin.port}".encode(), Inner(path=b"/t"))


@each(in_form((*LENGTHS, *CODINGS, *FIELDS, *LINES)))
@pytest.mark.parametrize("step", [None, 1], ids=["at once", "byte by byte"])
def test_refused(row: RawRow, step: int | None, proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    mark = tls_origin.recorder.mark()
    with enter(proxy, f"{HOST}:{tls_origin.port}") as client:
        answer = answer_to(client, filled(row, tls_origin), step)
        assert answer.status in row.status, answer
        check_refusal(answer, answer.status)
        assert client.ended()
    assert not tls_origin.recorder.since(mark)


@each([inside(row) for row in BAD_CHUNKS])
def test_bad_chunks_end_the_exchange(row: RawRow, proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    mark = tls_origin.recorder.mark()
    with enter(proxy, f"{HOST}:{tls_origin.port}") as client:
        assert refused_or_cut(client, filled(row, tls_origin))
        assert client.ended()
    arrived = tls_origin.recorder.since(mark)
    assert all(row.unseen not in bytes(connection.received) for connection in arrived)


def test_f05_each_of_several_requests_in_one_write_is_judged(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    mark, target = tls_origin.recorder.mark(), f"{HOST}:{tls_origin.port}".encode()
    good, bad = http1_bytes(target, Inner(path=b"/t")), http1_bytes(target, Inner(b"PURGE", b"/t"))
    with enter(proxy, target) as client:
        client.send(good + bad + good)
        assert [client.read().status for _ in range(3)] == [200, 403, 200]
    heads = [head for connection in tls_origin.recorder.since(mark) for head in connection.heads]
    assert [head.partition(b" ")[0] for head in heads] == [b"GET", b"GET"]


def test_f05_another_host_in_the_second_request_is_refused(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    mark, target = tls_origin.recorder.mark(), f"{HOST}:{tls_origin.port}".encode()
    other = http1_bytes(target, Inner(path=b"/t", authority=b"evil.test"))
    with enter(proxy, target) as client:
        client.send(a_good_request(tls_origin) + other)
        assert client.read().status == 200
        check_refusal(client.read())
    assert len([head for connection in tls_origin.recorder.since(mark) for head in connection.heads]) == 1


def test_f11_no_body_is_asked_for_that_will_be_refused(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    target = f"{HOST}:{tls_origin.port}".encode()
    head = b"PURGE /t HTTP/1.1\r\nHost: %b\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n" % target
    with enter(proxy, target) as client:
        answer = client.ask(head)
        assert (answer.status, answer.interim) == (403, ())


def test_f13_a_refused_upload_gets_the_whole_answer(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    target = f"{HOST}:{tls_origin.port}".encode()
    with enter(proxy, target) as client:
        assert client.ask(http1_bytes(target, Inner(b"PURGE", b"/t", body=bytes(200_000)))).status == 403
        assert still_served(client, tls_origin)


def still_served(client: Client, origin: HttpOrigin) -> bool:
    return client.ask(a_good_request(origin)).status == 200
