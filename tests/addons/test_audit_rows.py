"""Which events, and which entry of the blocked-request buffer, each situation leaves at each door (spec B10.3, B11)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import pytest

from codex_network_proxy.addons.authority import Authority, Surroundings
from codex_network_proxy.addons.local_sockets import LocalSockets
from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.decision import Blocked, IPAddress, NetworkDecision, NetworkPolicyRequest
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.interfaces import NetworkPolicyDecider
from codex_network_proxy.policy.unix_sockets import SocketFile

from .rows_audit import CASES, CLIENT, DOORS, LISTED, SOCKS, UNIX, Door, Row, Told

HOOK = """
[[permissions.t.network.mitm_hooks]]
host = "hooked.test"
[permissions.t.network.mitm_hooks.match]
methods = ["POST"]
path_prefixes = ["/ok"]
"""


@dataclass
class World:
    """Resolver, audit sink, clock and decider in one; `answer` is what the decider says."""

    answer: NetworkDecision | Exception | None = None
    events: list[PolicyDecisionEvent] = field(default_factory=list)

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        return (ip_address("10.0.0.1" if name.startswith("local") else "93.184.216.34"),)

    def emit(self, event: PolicyDecisionEvent) -> None:
        self.events.append(event)

    def now(self) -> float:
        return 1_764_000_000.5

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer
        return self.answer


class Files:
    """Every path is a socket of its own."""

    def look_up(self, path: str) -> SocketFile:
        return SocketFile(path, path, (1, sum(path.encode())))


def authority(world: World, lines: Sequence[str], sockets: LocalSockets | None = None) -> Authority:
    values = {
        "enabled": "true",
        "allowed_domains": '["allowed.test", "local.test", "hooked.test", "b\\u00fccher.test"]',
        "denied_domains": '["denied.test"]',
        "allow_unix_sockets": f'["{LISTED}"]',
    }
    values |= {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    table = "\n".join(f"{name} = {value}" for name, value in values.items())
    text = f'default_permissions = "t"\n[permissions.t.network]\n{table}\n{HOOK}'
    decider: NetworkPolicyDecider | None = world if world.answer is not None else None
    policy = NetworkPolicy.compile(load_config(text, file="config.toml").settings)
    return Authority(policy, Surroundings(world, world, world, decider, sockets=sockets))


def told(event: PolicyDecisionEvent) -> Told:
    fields = event.fields()
    scope, decision, source, reason = (
        str(fields[f"network.policy.{key}"]) for key in ("scope", "decision", "source", "reason")
    )
    override = fields["network.policy.override"]
    assert isinstance(override, bool)
    return scope, decision, source, reason, override


@pytest.mark.parametrize(("row", "door"), CASES)
def test_each_situation_leaves_its_events_and_its_entry(row: Row, door: Door, caplog: pytest.LogCaptureFixture) -> None:
    world = World(row.answer)
    judge = authority(world, row.lines, LocalSockets(Files()) if row.platform else None)
    with caplog.at_level(logging.DEBUG):
        verdict = asyncio.run(judge.decide(door.request(row.host, row.method, row.path)))
    judge.close()
    assert [told(event) for event in world.events] == list(row.events)
    for event in world.events:
        fields = event.fields()
        assert fields["event.name"] == "codex.network_proxy.policy_decision"
        assert (fields["server.address"], fields["server.port"]) == (
            ("unix-socket", 0) if door is UNIX else (row.host, 443)
        )
        assert fields["network.transport.protocol"] == door.protocol
        assert fields["http.request.method"] == (row.method or door.method or "none")
        assert fields["client.address"] == CLIENT
        assert fields["request.id"] == verdict.request_id
    assert isinstance(verdict, Blocked) == (row.events[-1][1] != "allow")
    check_entry(judge, row, door, caplog)


def check_entry(judge: Authority, row: Row, door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """One entry and one line for programs for each block, and none for what passes.

    Of unix sockets only a proxy that is disabled has one (spec B11.2).
    """
    _, decision, source, reason, _ = row.events[-1]
    said = [text for text in caplog.messages if text.startswith("CODEX_NETWORK_POLICY_VIOLATION ")]
    if decision == "allow" or (door is UNIX and reason != "proxy_disabled"):
        assert (judge.blocked.snapshot(), said) == ((), [])
        return
    (entry,) = judge.blocked.snapshot()
    inner, disabled = door.inner, reason == "proxy_disabled"
    kept = inner and not disabled
    expected: dict[str, object] = {"host": row.host, "reason": reason, "client": CLIENT}
    expected["method"] = row.method or door.method
    expected["mode"] = judge.mode.value if source == "mode_guard" or kept else None
    expected["protocol"] = door.protocol.value if disabled else door.label
    if not kept:
        expected |= {"decision": decision, "source": source}
    expected |= {"port": 0 if door is UNIX else 443, "timestamp": 1_764_000_000}
    assert list(entry.fields().items()) == list(expected.items())
    assert [json.loads(text.partition(" ")[2]) for text in said] == [expected]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_the_host_is_told_in_its_canonical_spelling(door: Door) -> None:
    world = World()
    asyncio.run(
        authority(world, ()).decide(replace(door.request("x"), target=parse_endpoint("B\u00dcCHER.test.", 443)))
    )
    assert {event.fields()["server.address"] for event in world.events} == {"xn--bcher-kva.test"}


def test_a_client_that_nobody_knows_is_called_so() -> None:
    world = World()
    asyncio.run(authority(world, ()).decide(replace(SOCKS.request("allowed.test"), client_address=None)))
    fields = world.events[0].fields()
    assert (fields["client.address"], fields["http.request.method"]) == ("unknown", "none")
