"""What was allowed and still stands: after a reload, behind an upstream proxy, when it turns out to be ourselves."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from codex_network_proxy.addons.authority import Authority, Surroundings
from codex_network_proxy.policy.decision import Allowed, Blocked, BlockReason, NetworkProtocol
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.patterns import parse_pattern
from codex_network_proxy.policy.upstream import read_routes

from .authority_kit import PUBLIC, FakeWorld, compile_policy, decide, make, question


@pytest.mark.parametrize(
    ("policy", "target", "stands"),
    [
        pytest.param(compile_policy(), "allowed.test", True, id="the same list keeps it open"),
        pytest.param(
            compile_policy(("**.test",)), "allowed.test", True, id="another rule that covers it keeps it open"
        ),
        pytest.param(compile_policy(()), "allowed.test", False, id="a host that left the list is cut"),
        pytest.param(
            compile_policy(denied=(parse_pattern("allowed.test"),)), "allowed.test", False, id="a denied host is cut"
        ),
        pytest.param(
            compile_policy(denied=(parse_pattern("93.184.216.0/24"),)),
            "allowed.test",
            False,
            id="a host whose address is denied now is cut",
        ),
        pytest.param(compile_policy(enabled=False), "allowed.test", False, id="a disabled proxy cuts everything"),
        pytest.param(
            compile_policy(mode=NetworkMode.LIMITED, mitm=True),
            "allowed.test",
            False,
            id="a tunnel that must be inspected now is cut",
        ),
        pytest.param(
            compile_policy(mode=NetworkMode.LIMITED), "allowed.test", False, id="a tunnel that is refused now is cut"
        ),
        pytest.param(None, "allowed.test", False, id="a broken configuration cuts everything"),
        pytest.param(
            compile_policy(()), "decided.test", True, id="what a decider allowed stands while no list objects"
        ),
        pytest.param(
            compile_policy(denied=(parse_pattern("decided.test"),)),
            "decided.test",
            False,
            id="a deny beats the decider",
        ),
        pytest.param(
            compile_policy((), hard_allowlist=True), "decided.test", False, id="a hard allowlist beats it as well"
        ),
    ],
)
def test_after_a_reload_an_open_tunnel(policy: NetworkPolicy | None, target: str, stands: bool) -> None:
    authority = make(FakeWorld())
    verdict = decide(authority, question(target))
    assert isinstance(verdict, Allowed)
    authority.replace(policy)
    assert authority.still_allows(verdict) is stands


# -- behind an upstream proxy ----------------------------------------------------------------------------------------

PROXY = "http://proxy.test:8080"


def behind(proxy: str, policy: NetworkPolicy, world: FakeWorld | None = None) -> Authority:
    world = world or FakeWorld()
    routes, _ = read_routes({"ALL_PROXY": proxy})
    return Authority(policy, Surroundings(world, world, world, routes=routes))


def test_an_audit_event_names_no_address_that_was_not_dialled() -> None:
    world = FakeWorld()
    verdict = decide(behind(PROXY, compile_policy(), world), question())
    assert isinstance(verdict, Allowed)
    assert verdict.addresses == (PUBLIC,)
    assert "network.peer.address" not in world.events[0].fields()


KEPT = [
    pytest.param({}, {}, True, id="the same policy"),
    pytest.param({}, {"allow_upstream_proxy": False}, False, id="the proxy may not be used any more"),
    pytest.param({}, {"allow_local_binding": True}, True, id="addresses do not matter any more"),
    pytest.param({"allow_local_binding": True}, {}, False, id="addresses matter now, and none was looked up"),
    pytest.param({"allow_upstream_proxy": False}, {}, True, id="what goes directly stands when a proxy may be used"),
    pytest.param({}, {"denied": (parse_pattern("93.184.216.34"),)}, False, id="the address is denied now"),
]


@pytest.mark.parametrize(("before", "after", "stands"), KEPT)
def test_what_stands_behind_an_upstream_proxy(
    before: dict[str, object], after: dict[str, object], stands: bool
) -> None:
    authority = behind(PROXY, compile_policy(("allowed.test",), **before))
    verdict = decide(authority, question())
    assert isinstance(verdict, Allowed)
    authority.replace(compile_policy(("allowed.test",), **after))
    assert authority.still_allows(verdict) is stands


def test_a_name_that_only_the_proxy_knows_stands() -> None:
    authority = behind(PROXY, compile_policy(), FakeWorld(ResolutionFailed("could not resolve")))
    verdict = decide(authority, question())
    assert isinstance(verdict, Allowed)
    assert verdict.addresses == ()
    authority.replace(compile_policy())
    assert authority.still_allows(verdict)


def test_a_proxy_that_turns_out_to_be_ourselves_is_left() -> None:
    authority = behind("http://127.0.0.1:3128", compile_policy())
    through = decide(authority, question())
    authority.own_listeners.add(3128)
    direct = decide(authority, question())
    assert isinstance(through, Allowed)
    assert isinstance(direct, Allowed)
    assert through.upstream is not None
    assert direct.upstream is None
    assert not authority.still_allows(through)


def test_datagrams_to_a_relay_of_ours_are_blocked_and_nothing_is_said_of_an_allow() -> None:
    world = FakeWorld([ip_address("127.0.0.1")])
    authority = make(world, compile_policy(allow_local_binding=True))
    asked = replace(question(), protocol=NetworkProtocol.SOCKS5_UDP)
    before = decide(authority, asked)
    authority.own_relays.add(asked.port)
    after = decide(authority, asked)
    assert isinstance(before, Allowed)
    assert isinstance(after, Blocked)
    assert after.reason == BlockReason.NOT_ALLOWED_LOCAL
    assert not authority.still_allows(before)
    assert world.told() == [("domain", "allow", "allow"), ("domain", "deny", "not_allowed_local")]
    assert isinstance(decide(authority, question()), Allowed), "who connects there meets somebody else"
