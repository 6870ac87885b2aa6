"""Every host case over UDP: the same decision as at the other doors, nothing looked up or sent on a no."""

from __future__ import annotations

import pytest

from tests.kit.doors import FAILED, PASSED, REFUSED, SOCKS, SOCKS_ADDRESS, Outcome
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import Event, ProxyProcess
from tests.kit.udp_client import UdpClient
from tests.kit.wire import Head, Response

from .rows import HostRow
from .rows_addresses import ADDRESSES
from .rows_names import NAMES, PRECEDENCE
from .rows_ports import PORTS
from .rows_resolution import RESOLUTION
from .test_hosts import Trace, check_world

ROWS = (*NAMES, *PRECEDENCE, *ADDRESSES, *PORTS, *RESOLUTION)
KINDS = [
    pytest.param(row, door, id=f"{door.name}: {row.id}")
    for row in ROWS
    for door in (SOCKS, SOCKS_ADDRESS)
    if door.can_ask(row.host, row.port)
]
# What is sent may arrive or not: UDP does not tell. It is allowed all the same.
SENT = {PASSED, FAILED}


@pytest.mark.parametrize(("row", "door"), KINDS)
def test_host(row: HostRow, door: object, fleet: Fleet, origin: HttpOrigin) -> None:
    proxy = fleet.get(row.policy)
    port = origin.port if row.port is None else int(row.port)
    with UdpClient(proxy.socks) as client:
        before = Trace(proxy, apart_from=client.sock.getsockname())
        client.send(row.host.decode().strip("[]") if door is SOCKS_ADDRESS else row.host, port, b"x")
        outcome = outcome_of(proxy, client)
        check_world(before, row, outcome)
    right = {word for known in row.right for word in (SENT if known in SENT else {known})}
    assert outcome.word in right
    if outcome.recorded is not None:
        (event,) = proxy.events_of(outcome.recorded)
        assert event["network.transport.protocol"] == "socks5_udp"
        assert event["network.policy.override"] is False


def outcome_of(proxy: ProxyProcess, client: UdpClient) -> Outcome:
    """What became of the client's one datagram, from the audit log; what is no host is in the log alone."""
    address = client.control.address
    events: list[Event] = []

    def decided() -> bool:
        events[:] = proxy.audit_events(0, lambda event: event["client.address"] == address)
        return bool(events) or f"SOCKS request rejected (client={address}," in proxy.output

    proxy.until(decided, "a decision")
    nothing = Response(0, "", Head("", ()))
    if not events:
        return Outcome(REFUSED, nothing)
    (event,) = events
    allowed = event["network.policy.decision"] == "allow"
    return Outcome(PASSED if allowed else event["network.policy.reason"], nothing, event["request.id"])
