"""A decider is never waited for too long; whatever it does wrong is a deny."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable

import pytest

from codex_network_proxy.policy.deciding import Deciding
from codex_network_proxy.policy.decision import Decision, DecisionSource, NetworkDecision, NetworkPolicyRequest

from .deciders import ALLOW, AT_ONCE, CONNECT, DENY, FakeDecider

Answer = Callable[[NetworkPolicyRequest], Awaitable[object]]


def answering(value: object) -> Answer:
    async def decide(request: NetworkPolicyRequest) -> object:
        if isinstance(value, BaseException):
            raise value
        return value

    return decide


async def hang(request: NetworkPolicyRequest) -> object:
    return await asyncio.Event().wait()


async def refuse_to_end(request: NetworkPolicyRequest) -> object:
    """Says yes when it is told to stop."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return ALLOW


def not_async(request: NetworkPolicyRequest) -> object:
    return ALLOW


@pytest.mark.parametrize(
    ("decider", "answer", "noted"),
    [
        pytest.param(answering(ALLOW), ALLOW, [], id="an allow is taken"),
        pytest.param(
            answering(NetworkDecision.deny("no")), NetworkDecision.deny("no"), [], id="a deny keeps its words"
        ),
        pytest.param(answering(NetworkDecision.ask("why")), NetworkDecision.ask("why"), [], id="an ask stays one"),
        pytest.param(
            answering(RuntimeError("secret text")),
            DENY,
            ["the decider failed (RuntimeError); the request is denied"],
            id="an error is a deny, and its text is not noted",
        ),
        pytest.param(
            answering(asyncio.CancelledError()),
            DENY,
            ["the decider was cancelled; the request is denied"],
            id="a decider that cancels itself denies",
        ),
        pytest.param(
            answering(TimeoutError()),
            DENY,
            ["the decider failed (TimeoutError); the request is denied"],
            id="a time-out of its own is an error like any other",
        ),
        pytest.param(
            hang, DENY, ["the decider did not answer within 1e-09 s; the request is denied"], id="a late one denies"
        ),
        pytest.param(
            refuse_to_end,
            DENY,
            ["the decider did not answer within 1e-09 s; the request is denied"],
            id="a late one that then says yes denies",
        ),
        pytest.param(
            not_async, DENY, ["the decider failed (TypeError); the request is denied"], id="a plain function denies"
        ),
        *(
            pytest.param(
                answering(value), DENY, [f"the decider answered with {kind}; {repair}"], id=f"{value!r} denies"
            )
            for repair in ["answer with NetworkDecision.allow() or .deny()"]
            for value, kind in [
                (True, "bool"),
                (None, "NoneType"),
                ("allow", "str"),
                (Decision.ALLOW, "Decision"),
                (NetworkDecision("allow"), "NetworkDecision"),  # type: ignore[arg-type]  # on purpose
                (NetworkDecision(Decision.ASK, 7), "NetworkDecision"),  # type: ignore[arg-type]  # on purpose
                (NetworkDecision(Decision.DENY, ""), "NetworkDecision"),
            ]
        ),
    ],
)
def test_the_answer_of_a_decider(decider: Answer, answer: NetworkDecision, noted: list[str]) -> None:
    notes: list[str] = []
    late = decider in (hang, refuse_to_end)
    deciding = Deciding(decider, timeout=AT_ONCE if late else 60.0, note=notes.append)  # type: ignore[arg-type]  # rows hand over wrong deciders on purpose
    assert asyncio.run(deciding.ask(CONNECT)) == answer
    assert notes == noted


def test_without_a_note_a_failure_is_a_silent_deny() -> None:
    deciding = Deciding(answering(RuntimeError()))  # type: ignore[arg-type]  # on purpose
    assert asyncio.run(deciding.ask(CONNECT)) == DENY


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan])
def test_a_time_out_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="write a number of seconds greater than 0"):
        Deciding(FakeDecider(), timeout=timeout)


@pytest.mark.parametrize(
    ("answer", "reason", "source"),
    [
        pytest.param(NetworkDecision.deny("x"), "x", "decider", id="a deny"),
        pytest.param(NetworkDecision.deny(), "policy_denied", "decider", id="a deny without a reason"),
        pytest.param(NetworkDecision.ask(""), "policy_denied", "decider", id="an ask with an empty reason"),
        pytest.param(
            NetworkDecision.deny_with_source("x", DecisionSource.MODE_GUARD), "x", "mode_guard", id="a deny of another"
        ),
        pytest.param(
            NetworkDecision.ask_with_source("", DecisionSource.PROXY_STATE),
            "policy_denied",
            "proxy_state",
            id="an ask of another, with an empty reason",
        ),
    ],
)
def test_an_answer_says_why_and_who(answer: NetworkDecision, reason: str, source: str) -> None:
    assert (answer.reason, answer.source) == (reason, source)
