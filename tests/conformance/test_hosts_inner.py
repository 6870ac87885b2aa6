"""The host cases once more where HTTPS is read: the CONNECT is judged alike, and so is the request inside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.kit.doors import FAILED, PASSED, REFUSED, Outcome
from tests.kit.fleet import Fleet
from tests.kit.inner import INNER_DOORS, InnerDoor
from tests.kit.origins import HttpOrigin
from tests.kit.policies import Policy
from tests.kit.proxy import ProxyProcess

from .rows import HostRow
from .rows_addresses import ADDRESSES
from .rows_names import NAMES, PRECEDENCE
from .rows_ports import PORTS
from .rows_resolution import RESOLUTION

# A target without a port is not for HTTPS.
ROWS = [row for row in (*NAMES, *PRECEDENCE, *ADDRESSES, *PORTS, *RESOLUTION) if row.port != b""]


def read_by_the_proxy(policy: Policy) -> Policy:
    """Limited mode reads every tunnel, whatever its host."""
    return replace(policy, mode="limited", lines=(*policy.lines, "mitm = true"))


Record = tuple[ProxyProcess, Outcome]


@pytest.fixture(scope="module")
def records(inspected: Fleet) -> Iterator[list[Record]]:
    """Blocks that must be on record, once each. Checked at the end, as the log is written in the background."""
    collected: list[Record] = []
    yield collected
    for proxy, outcome in collected:
        (event,) = proxy.events_of(outcome.answer.get("x-proxy-request-id") or "")
        assert (event["network.policy.decision"], event["network.policy.reason"]) == ("deny", outcome.word)
        assert (event["network.policy.scope"], event["network.policy.source"]) == ("domain", "baseline_policy")
        assert event["network.transport.protocol"] == "https_connect"


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
@pytest.mark.parametrize("door", [pytest.param(door, id=door.name) for door in INNER_DOORS])
def test_host(row: HostRow, door: InnerDoor, inspected: Fleet, tls_origin: HttpOrigin, records: list[Record]) -> None:
    proxy = inspected.get(read_by_the_proxy(row.policy))
    port = str(tls_origin.port).encode() if row.port is None else row.port
    lookups, dials = len(proxy.world.lookups()), len(proxy.world.dials())
    mark = tls_origin.recorder.mark()
    outcome = door.ask(proxy, row.host, port)
    assert outcome.word in row.right, outcome.answer
    door.check(outcome)
    arrived = tls_origin.recorder.since(mark)
    asked = set(proxy.world.lookups()[lookups:])
    if outcome.word == PASSED:
        assert outcome.origin == "tls"
        assert len(arrived) == 1
        return
    assert not arrived
    assert not asked or (row in RESOLUTION and b"evil" not in row.host)
    if outcome.word != FAILED:
        assert not proxy.world.dials()[dials:]
    if outcome.word not in (FAILED, REFUSED):
        records.append((proxy, outcome))
