"""scripts/bench --profile decision: its lists, its requests, its table."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.domains import parse_pattern
from codex_network_proxy.policy.engine import forget_judgements, judge_host
from codex_network_proxy.scripts.benchmark import decisions
from codex_network_proxy.scripts.benchmark.rounds import Spread
from codex_network_proxy.scripts.benchmark.targets import allowed_patterns


@pytest.mark.parametrize("patterns", [10, 100, 10_000])
def test_the_requests_of_the_profile_are_allowed_in_three_of_four_cases(patterns: int) -> None:
    policy, requests = decisions.policy_of(patterns), decisions.requests_for(patterns)
    allowed = [judge_host(policy, request.target) is not None for request in requests]
    assert allowed == [True, True, True, False] * (decisions.REQUESTS // 4)
    assert len({request.target for request in requests}) == decisions.REQUESTS
    forget_judgements()


def test_the_profile_takes_every_length_of_the_list() -> None:
    costs = decisions.measure(rounds=1, sizes=(10, 100))
    assert [cost.patterns for cost in costs] == [10, 100]
    assert costs[0].new == costs[0].seen == Spread(1.0, 1.0, 1.0)


def test_every_pattern_of_the_list_is_one() -> None:
    assert len({parse_pattern(text) for text in allowed_patterns(50)}) == 50
