"""Every host case through every door, with and without the fast path: same answer, nothing dialled on a no."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from tests.kit.doors import FAILED, PASSED, REFUSED, Door, Outcome
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import ProxyProcess

from .rows import HostRow, through
from .rows_addresses import ADDRESSES
from .rows_names import NAMES, PRECEDENCE
from .rows_ports import PORTS
from .rows_resolution import PUBLIC, PUBLIC_6, RESOLUTION


@through((*NAMES, *PRECEDENCE, *ADDRESSES, *PORTS, *RESOLUTION))
def test_host(
    row: HostRow, door: Door, fleet: Fleet, origin: HttpOrigin, fast_path: bool, records: list[Record]
) -> None:
    proxy = fleet.get(row.policy, fast_path)
    port = str(origin.port).encode() if row.port is None else row.port
    before, connections = Trace(proxy), origin.recorder.mark()
    outcome = door.ask(proxy, row.host, port)
    assert outcome.word in row.right, outcome.answer
    door.check(outcome)
    arrived = origin.recorder.since(connections)
    check_world(before, row, outcome)
    if outcome.word == PASSED:
        assert outcome.origin == "shared"
        assert len(arrived) == 1
        return
    assert not arrived
    if outcome.word not in (FAILED, REFUSED):
        records.append(Record(proxy, outcome, door))


def check_world(before: Trace, row: HostRow, outcome: Outcome) -> None:
    """One look-up at most, and only when the name itself was allowed; dials to the right addresses only."""
    named = {row.host.decode("latin-1").lower().rstrip(".")} if row in RESOLUTION else set()
    secret = b"evil" in row.host
    assert set(before.lookups()) <= (set() if secret else named)
    assert len(before.lookups()) <= 2, "at most one query for each address family"
    may_dial = outcome.word in (PASSED, FAILED)
    right = {ip_address(text) for text in (PUBLIC, PUBLIC_6, "127.0.0.1", "::1", "::ffff:127.0.0.1")}
    assert {ip_address(address) for address, _ in before.dials()} <= (right if may_dial else set())


class Trace:
    """What the proxy looked up and dialled since this was made; `apart_from` is not counted."""

    def __init__(self, proxy: ProxyProcess, apart_from: tuple[str, int] | None = None) -> None:
        self.proxy = proxy
        self.apart_from = apart_from
        self._lookups, self._dials = len(proxy.world.lookups()), len(proxy.world.dials())

    def lookups(self) -> list[str]:
        return self.proxy.world.lookups()[self._lookups :]

    def dials(self) -> list[tuple[str, int]]:
        return [dial for dial in self.proxy.world.dials()[self._dials :] if dial != self.apart_from]


@dataclass(frozen=True, slots=True)
class Record:
    """A block that must be on record once, under the id that the client was given."""

    proxy: ProxyProcess
    outcome: Outcome
    door: Door

    def check(self) -> None:
        (event,) = self.proxy.events_of(self.outcome.request_id)
        assert event["event.name"] == "codex.network_proxy.policy_decision"
        assert (event["network.policy.decision"], event["network.policy.reason"]) == ("deny", self.outcome.word)
        assert (event["network.policy.scope"], event["network.policy.source"]) == ("domain", "baseline_policy")
        assert event["network.transport.protocol"] == self.door.protocol
        assert event["network.policy.override"] is False


@pytest.fixture(scope="module")
def records(fleet: Fleet) -> Iterator[list[Record]]:
    """Checked together at the end, as the log is written in the background."""
    collected: list[Record] = []
    yield collected
    for record in collected:
        record.check()
