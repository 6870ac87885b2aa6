"""What a decider may change about a decision, when it is asked, and how its answers are labelled."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    Decision,
    DecisionSource,
    HttpUse,
    NetworkDecision,
    NetworkPolicyRequest,
    Tunnel,
    Use,
)

from .decisions import ALLOW, LIMITED, a_world, ask, compile_policy, reason


class FakeDecider:
    """An asker, which the policy trusts to answer in any case."""

    def __init__(self, answer: NetworkDecision) -> None:
        self.answer = answer
        self.asked: list[NetworkPolicyRequest] = []

    async def ask(self, request: NetworkPolicyRequest) -> NetworkDecision:
        self.asked.append(request)
        return self.answer


@pytest.mark.parametrize(
    ("answer", "target", "use", "settings", "expected"),
    [
        pytest.param(ALLOW, "listed.test:1", Tunnel(), {}, "allow", id="an allow overrides a miss"),
        pytest.param(ALLOW, "mixed6.test:1", Tunnel(), {}, "not_allowed_local", id="addresses count after an allow"),
        pytest.param(ALLOW, "loopback.test:3128", Tunnel(), {}, "not_allowed_local", id="as do the proxy's own ports"),
        pytest.param(ALLOW, "listed.test:1", Tunnel(), LIMITED, "mitm_required", id="interception counts after it"),
        pytest.param(ALLOW, "listed.test:1", HttpUse("POST"), LIMITED, "method_not_allowed", id="the method counts"),
        pytest.param(NetworkDecision.deny("no"), "listed.test:1", Tunnel(), {}, "no", id="a deny keeps its words"),
        pytest.param(
            NetworkDecision.deny("denied"), "listed.test:1", Tunnel(), {}, "denied", id="also when we use them"
        ),
        pytest.param(NetworkDecision.ask("why"), "listed.test:1", Tunnel(), {}, "why", id="an ask is a block"),
    ],
)
def test_the_decider(
    answer: NetworkDecision, target: str, use: Use, settings: Mapping[str, object], expected: str
) -> None:
    decider = FakeDecider(answer)
    verdict = ask(compile_policy(settings=settings), target, use, world=a_world(decider=decider))
    assert reason(verdict) == expected
    assert [request.host for request in decider.asked] == [target.partition(":")[0]]


def test_whatever_source_a_decider_names_it_spoke_itself() -> None:
    decider = FakeDecider(NetworkDecision.deny_with_source("x", DecisionSource.PROXY_STATE))
    verdict = ask(compile_policy(), "listed.test:1", world=a_world(decider=decider))
    assert isinstance(verdict, Blocked)
    assert verdict.ruling.source is DecisionSource.DECIDER


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("denied.test:443", id="a denied name"),
        pytest.param("127.0.0.1:443", id="a local literal"),
        pytest.param("allowed.test:443", id="a name that is listed"),
    ],
)
def test_the_decider_is_not_asked_about(target: str) -> None:
    decider = FakeDecider(NetworkDecision.allow())
    ask(compile_policy(denied=("denied.test",)), target, world=a_world(decider=decider))
    assert decider.asked == []


def test_a_hard_allowlist_leaves_nothing_to_the_decider() -> None:
    decider = FakeDecider(ALLOW)
    policy = compile_policy(settings={"hard_allowlist": True})
    assert reason(ask(policy, "listed.test:1", world=a_world(decider=decider))) == "not_allowed"
    assert decider.asked == []


def test_an_override_is_labelled() -> None:
    verdict = ask(compile_policy(), "listed.test:1", world=a_world(decider=FakeDecider(NetworkDecision.allow())))
    assert isinstance(verdict, Allowed)
    ruling = verdict.rulings[0]
    assert (ruling.source, ruling.reason, ruling.override) == (DecisionSource.DECIDER, "not_allowed", True)


def test_an_ask_is_labelled() -> None:
    verdict = ask(compile_policy(), "listed.test:1", world=a_world(decider=FakeDecider(NetworkDecision.ask("x"))))
    assert isinstance(verdict, Blocked)
    assert (verdict.ruling.decision, verdict.ruling.source) == (Decision.ASK, DecisionSource.DECIDER)


def test_the_decider_sees_the_canonical_host() -> None:
    decider = FakeDecider(NetworkDecision.deny())
    ask(compile_policy(), "LISTED.Test.:8443", world=a_world(decider=decider))
    assert [(request.host, request.port) for request in decider.asked] == [("listed.test", 8443)]
