"""Every row of requests inside intercepted tunnels: the outcome, what the origin saw, and where the secret was."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.kit.doors import PASSED, Outcome
from tests.kit.fleet import Fleet
from tests.kit.h2_client import Http2Client, StreamCut
from tests.kit.hooks import CANARY
from tests.kit.inner import CUT, HTTP2, INNER, INNER_H2, InnerDoor, by_socks, enter, outcome_of
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import ProxyProcess
from tests.kit.server import Connection
from tests.kit.wire import Ended, Head, Response, parse_head

from .rows_authority import AUTHORITY, AUTHORITY_HTTP1, AUTHORITY_HTTP2
from .rows_http2 import HTTP2 as MALFORMED_HTTP2
from .rows_inner import FULL, LIMITED, H2Row, InnerRow, RawInnerRow, inner_rows
from .rows_rules import HEADER_BYTES, RULES
from .rows_secrets import SECRETS, SECRETS_HTTP1
from .rows_upgrades import UPGRADES, UPGRADES_HTTP1

BLOCKED = ("mitm_hook_denied", "method_not_allowed", "mitm_required")


@pytest.fixture(scope="module", autouse=True)
def nothing_leaked(inspected: Fleet) -> Iterator[None]:
    """After all rows: the proxies never wrote the secret down."""
    yield
    for policy in (FULL, LIMITED):
        proxy = inspected.get(policy)
        assert CANARY not in proxy.output
        assert CANARY not in proxy.audit_log.read_text()


class Blocks:
    """Blocks that must be on record, once each. Checked at the end, as the log is written in the background."""

    def __init__(self) -> None:
        self._seen: list[tuple[ProxyProcess, Outcome]] = []

    def note(self, proxy: ProxyProcess, outcome: Outcome) -> None:
        if outcome.word in BLOCKED:
            self._seen.append((proxy, outcome))

    def check(self) -> None:
        for proxy, outcome in self._seen:
            events = proxy.events_of(outcome.answer.get("x-proxy-request-id") or "", 2)
            host, use = events[0], events[-1]
            assert (host["network.policy.scope"], host["network.policy.decision"]) == ("domain", "allow")
            assert (use["network.policy.scope"], use["network.policy.decision"]) == ("non_domain", "deny")
            assert (use["network.policy.source"], use["network.policy.reason"]) == ("mode_guard", outcome.word)
            assert {event["network.transport.protocol"] for event in events} == {"https_connect"}


@pytest.fixture(scope="module")
def blocks(inspected: Fleet) -> Iterator[Blocks]:
    collected = Blocks()
    yield collected
    collected.check()


def filled(data: bytes, target: bytes) -> bytes:
    return data.replace(b"{at}", target).replace(b"{port}", target.rpartition(b":")[2])


def target_of(host: str, origin: HttpOrigin) -> bytes:
    return f"{host}:{origin.port}".encode()


@inner_rows((*AUTHORITY, *RULES, *UPGRADES, *SECRETS))
def test_request(row: InnerRow, door: InnerDoor, inspected: Fleet, tls_origin: HttpOrigin, blocks: Blocks) -> None:
    check_request(row, door, inspected, tls_origin, blocks)


# SOCKS5 has no tunnels in limited mode.
@inner_rows([row for row in (*AUTHORITY, *RULES, *UPGRADES, *SECRETS) if row.policy is FULL], by_socks)
def test_g14_by_socks(row: InnerRow, door: InnerDoor, inspected: Fleet, tls_origin: HttpOrigin, blocks: Blocks) -> None:
    check_request(row, door, inspected, tls_origin, blocks)


def check_request(row: InnerRow, door: InnerDoor, inspected: Fleet, tls_origin: HttpOrigin, blocks: Blocks) -> None:
    proxy, target, mark = inspected.get(row.policy), target_of(row.host, tls_origin), tls_origin.recorder.mark()
    authority = row.inner.authority
    inner = row.inner if authority is None else replace(row.inner, authority=filled(authority, target))
    outcome = door.send(proxy, target, inner)
    arrived = tls_origin.recorder.since(mark)
    assert outcome.word in row.right, (outcome.answer, [connection.heads for connection in arrived])
    assert row.text is None or outcome.answer.text == row.text
    door.check(outcome)
    blocks.note(proxy, outcome)
    if outcome.word == PASSED:
        check_origin(row, target, one_head(arrived))
    else:
        check_unseen(row.inner.path, arrived)


def one_head(arrived: list[Connection]) -> Head:
    (connection,) = arrived
    (head,) = connection.heads
    return parse_head(head)


def check_origin(row: InnerRow, target: bytes, head: Head) -> None:
    """What was judged is what was sent, to the byte; and the edits of the hook, no more and no less."""
    assert head.start.encode("latin-1") == b"%b %b HTTP/1.1" % (row.inner.method, row.inner.path)
    assert head.all("host") == [target.decode()]
    for name, values in row.at_origin:
        assert head.all(name) == [filled(value.encode(), target).decode() for value in values], name


def check_unseen(path: bytes, arrived: list[Connection]) -> None:
    """Nothing was sent but what an origin had to see to fail or to switch."""
    may_arrive = path.startswith((b"/raw", b"/ws", b"/bad-ws"))
    assert may_arrive or not any(connection.heads for connection in arrived)
    assert all(CANARY.encode() not in connection.received for connection in arrived)


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.id) for row in (*AUTHORITY_HTTP1, *HEADER_BYTES, *SECRETS_HTTP1, *UPGRADES_HTTP1)],
)
def test_bytes(row: RawInnerRow, inspected: Fleet, tls_origin: HttpOrigin, blocks: Blocks) -> None:
    proxy, target, mark = inspected.get(row.policy), target_of(row.host, tls_origin), tls_origin.recorder.mark()
    outcome = outcome_of_bytes(proxy, target, filled(row.request, target))
    arrived = tls_origin.recorder.since(mark)
    assert outcome.word in row.right, (outcome.answer, [connection.heads for connection in arrived])
    assert row.text is None or outcome.answer.text == row.text
    INNER.check(outcome)
    blocks.note(proxy, outcome)
    for connection in arrived:
        assert not row.unseen or row.unseen not in connection.received
        assert connection.received.count(CANARY.encode()) <= connection.received.count(b" HTTP/1.1\r\n") <= 1


def outcome_of_bytes(proxy: ProxyProcess, target: bytes, request: bytes) -> Outcome:
    try:
        with enter(proxy, target) as client:
            return outcome_of(client.ask(request, request.split(b" ")[0].decode("latin-1")))
    except (Ended, ConnectionError, ssl.SSLError):
        return nothing()


def nothing() -> Outcome:
    return Outcome(CUT, Response(0, "", Head("", ())))


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in (*AUTHORITY_HTTP2, *MALFORMED_HTTP2)])
def test_http2(row: H2Row, inspected: Fleet, tls_origin: HttpOrigin, blocks: Blocks) -> None:
    proxy, target, mark = inspected.get(row.policy), target_of(row.host, tls_origin), tls_origin.recorder.mark()
    outcome = outcome_of_fields(proxy, target, row)
    arrived = tls_origin.recorder.since(mark)
    heads = [head for connection in arrived for head in connection.heads]
    assert outcome.word in row.right, (outcome.answer, heads)
    INNER_H2.check(outcome)
    blocks.note(proxy, outcome)
    assert len(heads) <= row.arrives, heads
    for connection in arrived:
        assert not any(word in connection.received for word in (b"mine", b"/evil"))
        assert b"DELETE" not in b"".join(connection.heads)


def outcome_of_fields(proxy: ProxyProcess, target: bytes, row: H2Row) -> Outcome:
    fields = [(filled(name, target), filled(value, target)) for name, value in row.fields]
    try:
        with enter(proxy, target, HTTP2) as connected:
            client = Http2Client(connected)
            number = client.start(fields, end=not row.body)
            if row.body:
                client.send_body(number, row.body, end=not row.trailers)
            if row.trailers:
                client.connection.send_headers(number, row.trailers, end_stream=True)
                client.flush()
            return outcome_of(client.wait(number))
    except (StreamCut, ConnectionError, ssl.SSLError):
        return nothing()
