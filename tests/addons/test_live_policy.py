"""Code changes the policy while it runs: at once, within the constraints, and until the file is read again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import closing

import pytest

from codex_network_proxy.addons.authority import Authority, Surroundings
from codex_network_proxy.addons.live_policy import LivePolicy
from codex_network_proxy.addons.local_sockets import LocalSockets
from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.constraints import Constraints
from codex_network_proxy.policy.decision import Allowed, Blocked, NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import PolicyChangeRefused
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.overlays import UNMANAGED, ManagedPolicy

from .flow_kit import World

TABLE = """
default_permissions = "test"
[permissions.test.network]
enabled = true
allow_local_binding = true
allowed_domains = ["a.test", "hooked.test"]
denied_domains = ["evil.test"]
allow_unix_sockets = ["/run/a.sock"]
mitm = true
[[permissions.test.network.mitm_hooks]]
host = "hooked.test"
match = { methods = ["GET"], path_prefixes = ["/"] }
actions = { inject_request_headers = [{ name = "x-token", secret_env_var = "TOKEN", prefix = "canary" }] }
"""


def live(managed: ManagedPolicy = UNMANAGED, world: World | None = None) -> tuple[Authority, LivePolicy]:
    settings = load_config(TABLE, file="config.toml").settings
    world = world or World()
    authority = Authority(NetworkPolicy.compile(settings), Surroundings(world, world, world))
    return authority, LivePolicy(authority, settings, managed)


def decide(authority: Authority, host: str) -> object:
    request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, parse_endpoint(host, 443), method="CONNECT")
    return asyncio.run(authority.decide(request))


def test_an_added_host_is_allowed_at_once_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    authority, policy = live()
    with caplog.at_level(logging.INFO):
        policy.add_allowed_domain("New.Test.")
    assert isinstance(decide(authority, "new.test"), Allowed)
    assert policy.current_patterns == (("a.test", "hooked.test", "new.test"), ("evil.test",))
    assert caplog.messages == ["config entry added to allowlist: new.test"]


def test_a_denied_host_is_denied_at_once_and_its_connections_are_judged_again() -> None:
    authority, policy = live()
    before = decide(authority, "a.test")
    assert isinstance(before, Allowed)
    judged: list[bool] = []
    authority.on_policy(lambda: judged.append(authority.still_allows(before)))
    policy.add_denied_domain("a.test")
    after = decide(authority, "a.test")
    assert isinstance(after, Blocked)
    assert (after.reason, judged) == ("denied", [False])
    assert policy.current_patterns == (("hooked.test",), ("evil.test", "a.test"))


def test_a_change_that_is_none_disturbs_nobody() -> None:
    authority, policy = live()
    authority.on_policy(lambda: pytest.fail("nothing has changed"))
    policy.add_allowed_domain("A.test")
    policy.add_denied_domain("evil.test")
    policy.set_network_mode(NetworkMode.FULL)


def test_the_mode_changes_at_once() -> None:
    authority, policy = live()
    policy.set_network_mode(NetworkMode.LIMITED)
    assert (authority.mode, policy.network_mode) == (NetworkMode.LIMITED, NetworkMode.LIMITED)
    assert [policy.method_allowed(method) for method in ("GET", "get", "POST")] == [True, False, False]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda policy: policy.add_allowed_domain("b.test"), id="an allowed host"),
        pytest.param(lambda policy: policy.set_network_mode(NetworkMode.FULL), id="a mode"),
        pytest.param(lambda policy: policy.add_allowed_domain(""), id="no host"),
    ],
)
def test_a_change_that_is_refused_changes_nothing(change: Callable[[LivePolicy], None]) -> None:
    bound = Constraints(mode=NetworkMode.LIMITED, allowed_domains=("a.test", "hooked.test"))
    authority, policy = live(ManagedPolicy(constraints=bound))
    policy.set_network_mode(NetworkMode.LIMITED)
    before, settings = authority.policy, policy.current_config
    with pytest.raises(PolicyChangeRefused):
        change(policy)
    assert (authority.policy, policy.current_config) == (before, settings)


def test_nothing_is_opened_while_the_configuration_is_broken() -> None:
    authority, policy = live()
    authority.replace(None)
    with pytest.raises(PolicyChangeRefused, match="the configuration is broken; repair the file first"):
        policy.add_allowed_domain("b.test")
    assert (policy.broken, authority.policy) == (True, None)
    assert asyncio.run(policy.host_blocked("a.test", 443)) == "policy_denied"
    assert not policy.host_has_mitm_hooks("hooked.test")


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        pytest.param("A.Test.", 443, None, id="a listed host is not blocked"),
        pytest.param("hooked.test", 80, None, id="hooks are left aside"),
        pytest.param("b.test", 443, "not_allowed", id="another host"),
        pytest.param("evil.test", 443, "denied", id="a denied host"),
        pytest.param("169.254.169.254", 80, "not_allowed_local", id="a local address"),
        pytest.param("a..test", 443, "not_allowed", id="no host"),
        pytest.param("a.test", 0, "not_allowed", id="no port"),
    ],
)
@pytest.mark.parametrize("mode", list(NetworkMode))
def test_the_host_policy_alone(host: str, port: int, reason: str | None, mode: NetworkMode) -> None:
    world = World()
    _, policy = live(world=world)
    policy.set_network_mode(mode)
    assert asyncio.run(policy.host_blocked(host, port)) == reason
    assert world.events == []


def test_a_name_that_does_not_resolve_is_not_blocked() -> None:
    _, policy = live(world=World(addresses=None))
    assert asyncio.run(policy.host_blocked("a.test", 443)) is None


def test_what_is_in_force_can_be_read_and_holds_no_secret() -> None:
    _, policy = live()
    assert (policy.enabled, policy.broken, policy.network_mode) == (True, False, NetworkMode.FULL)
    assert (policy.allow_local_binding, policy.allow_upstream_proxy) == (True, True)
    assert (policy.allow_unix_sockets, policy.dangerously_allow_all_unix_sockets) == (("/run/a.sock",), False)
    assert [policy.host_has_mitm_hooks(host) for host in ("Hooked.Test", "a.test", "a..test")] == [True, False, False]
    assert "canary" not in repr(policy.current_config)


@pytest.mark.parametrize(
    ("path", "sockets", "allowed"),
    [
        pytest.param("/run/a.sock", True, True, id="an entry"),
        pytest.param("/run/b.sock", True, False, id="another path"),
        pytest.param("/run/a.sock", False, False, id="a platform without sockets"),
    ],
)
def test_a_unix_socket(path: str, sockets: bool, allowed: bool) -> None:
    authority, policy = live()
    with closing(LocalSockets()) as found:
        authority.sockets = found if sockets else None
        assert asyncio.run(policy.is_unix_socket_allowed(path)) is allowed
        authority.replace(None)
        assert not asyncio.run(policy.is_unix_socket_allowed(path))


def test_blocks_are_copied_or_drained_and_counted() -> None:
    authority, policy = live()
    decide(authority, "b.test")
    decide(authority, "evil.test")
    assert [entry.host for entry in policy.blocked_snapshot()] == ["b.test", "evil.test"]
    assert [entry.host for entry in policy.drain_blocked()] == ["b.test", "evil.test"]
    assert (policy.blocked_snapshot(), policy.blocked_total) == ((), 2)
