"""Requests that must be refused, byte for byte, with and without the fast path."""

from __future__ import annotations

import contextlib

import pytest

from tests.kit.answers import check_refusal
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.raw import Client, exchange, get
from tests.kit.wire import Ended, Response

from .rows import RawRow, each
from .rows_framing import BAD_CHUNKS, REFUSED_HEADS
from .rows_ports import AUTHORITIES


def filled(row: RawRow, origin: HttpOrigin) -> bytes:
    port = str(origin.port).encode()
    return row.request.replace(b"{at}", b"allowed.test:" + port).replace(b"{port}", port)


@each((*AUTHORITIES, *REFUSED_HEADS))
@pytest.mark.parametrize("step", [None, 1], ids=["at once", "byte by byte"])
def test_refused(row: RawRow, step: int | None, fleet: Fleet, origin: HttpOrigin, fast_path: bool) -> None:
    proxy = fleet.get(row.policy, fast_path)
    connections = origin.recorder.mark()
    with Client(proxy.http) as client:
        answer = answer_to(client, filled(row, origin), step)
        assert answer.status in row.status, answer
        check_refusal(answer, answer.status)
        assert row.text is None or answer.text == row.text
        assert client.ended()
    assert not origin.recorder.since(connections)


def answer_to(client: Client, request: bytes, step: int | None) -> Response:
    """The first answer; the proxy may close while we still send."""
    with contextlib.suppress(ConnectionError):
        client.send(request, step)
    return client.read()


def refused_or_cut(client: Client, request: bytes) -> bool:
    """A 400, or the end of the connection without a byte of an answer."""
    try:
        return answer_to(client, request, None).status == 400
    except Ended as cut:
        return not cut.partial
    except ConnectionError:
        return True


@each(BAD_CHUNKS)
def test_bad_chunks_end_the_exchange(row: RawRow, fleet: Fleet, origin: HttpOrigin, fast_path: bool) -> None:
    proxy = fleet.get(row.policy, fast_path)
    mark = origin.recorder.mark()
    with Client(proxy.http) as client:
        assert refused_or_cut(client, filled(row, origin))
        assert client.ended()
    arrived = origin.recorder.since(mark)
    assert all(row.unseen not in bytes(connection.received) for connection in arrived)
    at = f"http://allowed.test:{origin.port}/t"
    assert exchange(proxy.http, get(at)).status == 200, "the next client is served"
