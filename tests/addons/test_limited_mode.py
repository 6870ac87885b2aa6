"""The second lock of limited mode: nothing but reads, and no read that the origin takes for a write (spec B5)."""

from __future__ import annotations

import pytest

from codex_network_proxy.addons.allowlist import Allowlist
from codex_network_proxy.addons.limited_mode import METHOD_OVERRIDES, LimitedMode

from .engine_kit import configuration
from .flow_kit import Bench, answered, bench, compiled, lines, run

LIMITED = configuration("limited")


def override(name: str) -> list[tuple[str, str]]:
    return [(name.upper(), "DELETE"), ("x-kept", "1"), (name, "POST")]


@pytest.mark.parametrize("name", METHOD_OVERRIDES)
def test_method_overrides_are_removed(name: str) -> None:
    with bench(LIMITED) as here:
        flow = here.flow(fields=override(name))
        LimitedMode().requestheaders(flow)
        assert lines(flow) == [("x-kept", "1")]


def test_in_full_mode_they_stay() -> None:
    with bench() as here:
        flow = here.flow(fields=override("x-http-method"))
        LimitedMode().requestheaders(flow)
        assert len(lines(flow)) == 3


def narrowed(here: Bench, method: str) -> int:
    """A decision of full mode, when the mode has become limited before the chain's end."""
    flow = run(Allowlist().requestheaders, here.flow(method=method))
    assert flow.id in here.session.candidates
    here.authority.replace(compiled(LIMITED))
    here.world.events.clear()
    LimitedMode().requestheaders(flow)
    assert (flow.id in here.session.candidates) is (flow.response is None)
    return answered(flow)[0]


@pytest.mark.parametrize(
    ("method", "status"), [("POST", 403), ("get", 403), ("PROPFIND", 403), ("GET", 0), ("HEAD", 0)]
)
def test_a_mode_that_narrows_after_the_decision(method: str, status: int) -> None:
    with bench() as here:
        assert narrowed(here, method) == status
        assert here.world.told() == ([("deny", "method_not_allowed")] if status else [])


def test_a_broken_configuration_counts_as_limited() -> None:
    with bench() as here:
        flow = here.flow(fields=override("x-http-method"))
        here.authority.replace(None)
        LimitedMode().requestheaders(flow)
        assert len(lines(flow)) == 1


def test_answered_flows_and_strangers_are_left_alone() -> None:
    with bench(LIMITED) as here:
        flow = run(Allowlist().requestheaders, here.flow("http://denied.test/", override("x-http-method")))
        LimitedMode().requestheaders(flow)
        assert len(lines(flow)) == 3
        stranger = here.flow(fields=override("x-http-method"))
        here.session.tenant = None
        LimitedMode().requestheaders(stranger)
        assert len(lines(stranger)) == 3
