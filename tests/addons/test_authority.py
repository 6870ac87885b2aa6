"""The authority decides, audits, records, reports; whatever goes wrong inside it is a deny."""

from __future__ import annotations

import asyncio
import logging

import pytest

from codex_network_proxy.addons.authority import Authority, RequestIds, Surroundings
from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    BlockReason,
    HttpUse,
    NetworkPolicyRequest,
    Outage,
    Unavailable,
)
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.modes import NetworkMode

from .authority_kit import FakeWorld, compile_policy, decide, make, question


def test_an_allow_is_one_event_that_names_the_pinned_address() -> None:
    world = FakeWorld()
    verdict = decide(make(world), question())
    assert isinstance(verdict, Allowed)
    assert world.told() == [("domain", "allow", "allow")]
    assert world.events[0].fields()["network.peer.address"] == "93.184.216.34"
    assert world.events[0].fields()["request.id"] == verdict.request_id


def test_a_block_is_audited_buffered_and_reported_under_one_id() -> None:
    world = FakeWorld()
    authority = make(world)
    seen: list[tuple[Blocked, BlockedRequest]] = []
    authority.on_block(lambda verdict, entry: seen.append((verdict, entry)))
    verdict = decide(authority, question("other.test"))
    assert isinstance(verdict, Blocked)
    assert verdict.reason == "no"
    assert [found for found, _ in seen] == [verdict]
    assert [entry.host for entry in authority.blocked.snapshot()] == ["other.test"]
    assert world.events[0].fields()["request.id"] == verdict.request_id


def test_a_method_block_is_two_events_and_one_entry() -> None:
    world = FakeWorld()
    authority = make(world, compile_policy(mode=NetworkMode.LIMITED))
    decide(authority, question(use=HttpUse("POST")))
    assert world.told() == [("domain", "allow", "allow"), ("non_domain", "deny", "method_not_allowed")]
    assert len(authority.blocked.snapshot()) == 1


@pytest.mark.parametrize(
    "failure",
    [pytest.param(RuntimeError("secret text"), id="an error"), pytest.param(ValueError(), id="another error")],
)
def test_an_error_inside_is_a_deny_and_its_text_is_not_logged(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    world = FakeWorld(failure)
    with caplog.at_level(logging.DEBUG):
        verdict = decide(make(world), question())
    assert isinstance(verdict, Blocked)
    assert verdict.reason == BlockReason.POLICY_DENIED
    assert world.told() == [("non_domain", "deny", "policy_denied")]
    assert "secret text" not in caplog.text


def test_an_unresolved_name_is_audited_as_allowed_and_not_buffered() -> None:
    world = FakeWorld(ResolutionFailed("could not resolve allowed.test"))
    authority = make(world)
    decide(authority, question())
    assert world.told() == [("domain", "allow", "allow")]
    assert authority.blocked.snapshot() == ()


def test_a_broken_configuration_closes_everything_and_is_not_audited() -> None:
    world = FakeWorld()
    authority = make(world)
    authority.replace(None)
    assert isinstance(decide(authority, question()), Unavailable)
    assert authority.mode is NetworkMode.LIMITED
    assert world.events == []


@pytest.mark.parametrize(
    ("working", "looked_up"),
    [
        pytest.param([False], [], id="before anything is asked"),
        pytest.param([True, False], ["allowed.test"], id="after the look-up"),
    ],
)
def test_what_cannot_be_written_down_does_not_happen(
    working: list[bool], looked_up: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    world = FakeWorld()
    recording = iter(working)
    surroundings = Surroundings(world, world, world, recording=lambda: next(recording))
    authority = Authority(compile_policy(), surroundings)
    with caplog.at_level(logging.INFO):
        verdict = decide(authority, question())
    assert isinstance(verdict, Unavailable)
    assert (verdict.outage, world.events, world.looked_up) == (Outage.NO_AUDIT_LOG, [], looked_up)
    assert "CONNECT failed; the audit log cannot be written (" in caplog.text


def test_while_everything_is_written_down_decisions_are_made() -> None:
    world = FakeWorld()
    authority = Authority(compile_policy(), Surroundings(world, world, world, recording=lambda: True))
    assert isinstance(decide(authority, question()), Allowed)


def test_the_blocked_buffer_survives_a_new_policy_and_observers_hear_of_it() -> None:
    authority = make(FakeWorld())
    heard: list[NetworkPolicy | None] = []
    authority.on_policy(lambda: heard.append(authority.policy))
    decide(authority, question("other.test"))
    policy = compile_policy(("other.test",))
    authority.replace(policy)
    assert heard == [policy]
    assert len(authority.blocked.snapshot()) == 1
    assert isinstance(decide(authority, question("other.test")), Allowed)


def test_an_observer_of_the_policy_that_raises_keeps_no_other_from_cutting(caplog: pytest.LogCaptureFixture) -> None:
    authority = make(FakeWorld())
    heard: list[str] = []

    def fail() -> None:
        raise RuntimeError("secret text")

    authority.on_policy(fail)
    authority.on_policy(lambda: heard.append("cut"))
    authority.replace(compile_policy(()))
    assert heard == ["cut"]
    assert "an observer of the policy failed (RuntimeError)" in caplog.text
    assert "secret text" not in caplog.text


def test_a_preview_leaves_no_trace_and_asks_no_decider() -> None:
    world = FakeWorld()
    authority = make(world)
    verdicts = [asyncio.run(authority.preview(question(host))) for host in ("allowed.test", "decided.test")]
    assert [type(verdict) for verdict in verdicts] == [Allowed, Blocked]
    authority.replace(None)
    assert isinstance(asyncio.run(authority.preview(question())), Unavailable)
    assert (world.events, authority.blocked.total) == ([], 0)


def test_an_observer_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    authority = make(FakeWorld())

    def fail(verdict: Blocked, entry: BlockedRequest) -> None:
        raise RuntimeError("secret text")

    authority.on_block(fail)
    assert isinstance(decide(authority, question("other.test")), Blocked)
    assert "an observer of blocks failed (RuntimeError)" in caplog.text
    assert "secret text" not in caplog.text


def test_what_passed_and_failed_is_told_and_is_no_block(caplog: pytest.LogCaptureFixture) -> None:
    world = FakeWorld()
    authority, heard = make(world), list[tuple[str, str]]()

    def fail(request: NetworkPolicyRequest, why: str) -> None:
        raise RuntimeError("secret text")

    authority.on_failure(fail)
    authority.on_failure(lambda request, why: heard.append((request.host, why)))
    verdict = decide(authority, question())
    assert isinstance(verdict, Allowed)
    assert heard == []
    authority.unreached(verdict, "upstream failure: connection refused")
    world.addresses = ResolutionFailed("no such name")
    decide(authority, question())
    assert heard == [
        ("allowed.test", "upstream failure: connection refused"),
        ("allowed.test", "could not resolve allowed.test"),
    ]
    assert authority.blocked.total == 0
    assert caplog.messages.count("an observer of failures failed (RuntimeError)") == 2
    assert "secret text" not in caplog.text


def test_request_ids_are_unique_and_differ_between_processes() -> None:
    first, second = RequestIds(), RequestIds()
    ids = [first() for _ in range(100)] + [second() for _ in range(100)]
    assert len(set(ids)) == 200


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        pytest.param(compile_policy(), True, id="by default"),
        pytest.param(compile_policy(enable_socks5_udp=False), False, id="switched off"),
        pytest.param(None, None, id="a broken configuration"),
    ],
)
def test_whether_socks5_clients_may_have_udp(policy: NetworkPolicy | None, served: bool | None) -> None:
    authority = make(FakeWorld())
    authority.replace(policy)
    assert authority.serves_udp is served
