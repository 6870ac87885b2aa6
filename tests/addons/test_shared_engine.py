"""The engine that all proxies of a program share: loaded once, when it is needed, and gone when nobody needs it."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from mitmproxy import ctx

from codex_network_proxy.addons import engine_options, shared_engine, shared_setup
from codex_network_proxy.addons.engine import InProcessEngine
from codex_network_proxy.addons.master import EngineMaster
from codex_network_proxy.addons.shared_engine import SharedEngine
from codex_network_proxy.addons.shared_master import SharedMaster

from .flow_kit import Bench, bench

Scenario = Callable[[SharedEngine, Bench], Awaitable[None]]


def play(scenario: Scenario) -> None:
    async def run() -> None:
        engine = SharedEngine()
        with bench() as here:
            await scenario(engine, here)
        await engine.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_two_proxies_get_one_engine_and_their_own_part_of_it() -> None:
    async def scenario(engine: SharedEngine, here: Bench) -> None:
        one, two = await asyncio.gather(engine._serve(here.tenant), engine._serve(here.tenant))
        assert one is not two
        assert cast(Any, one)._master is cast(Any, two)._master is ctx.master

    play(scenario)


def test_one_that_was_never_needed_is_never_there() -> None:
    async def scenario(engine: SharedEngine, here: Bench) -> None:
        engine.for_tenant(here.tenant)

    play(scenario)


def test_a_start_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = ["an option that cannot be had"]
    prepare = engine_options.prepare_options
    monkeypatch.setattr(shared_setup, "prepare_options", lambda master: problems.pop() if problems else prepare(master))

    async def scenario(engine: SharedEngine, here: Bench) -> None:
        with pytest.raises(RuntimeError, match="an option that cannot be had"):
            await engine._serve(here.tenant)
        assert isinstance(await engine._serve(here.tenant), InProcessEngine)

    play(scenario)


def test_one_proxy_that_no_longer_waits_does_not_take_it_from_the_others() -> None:
    async def scenario(engine: SharedEngine, here: Bench) -> None:
        impatient = asyncio.create_task(engine._serve(here.tenant))
        patient = asyncio.create_task(engine._serve(here.tenant))
        await asyncio.sleep(0)
        impatient.cancel()
        assert isinstance(await patient, InProcessEngine)
        assert impatient.cancelled()

    play(scenario)


def test_the_end_waits_for_a_start_that_is_under_way() -> None:
    async def scenario(engine: SharedEngine, here: Bench) -> None:
        starting = asyncio.create_task(engine._serve(here.tenant))
        await asyncio.sleep(0)
        await engine.stop()
        assert isinstance(await starting, InProcessEngine)

    play(scenario)


def test_an_engine_that_ends_before_it_runs_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends(self: object) -> None:
        return

    monkeypatch.setattr(EngineMaster, "run", ends)

    async def scenario(engine: SharedEngine, here: Bench) -> None:
        with pytest.raises(RuntimeError, match="did not start"):
            await engine._serve(here.tenant)

    play(scenario)


@pytest.mark.parametrize("strict", [False, True])
def test_what_other_packages_warn_of_keeps_nobody_from_being_served(
    strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program may make warnings errors; its filters are left as they are."""
    tried: list[str] = []

    def load(name: str) -> object:
        tried.append(name)
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        return sys.modules[name]

    monkeypatch.setattr(shared_engine, "import_module", load)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore")
        before = list(warnings.filters)
        shared_engine._load()
        assert warnings.filters == before
    assert len(tried) == (2 if strict else 1)


def test_an_engine_that_does_not_end_is_cut() -> None:
    class Stuck:
        should_exit = asyncio.Event()

    async def run() -> None:
        task = asyncio.get_running_loop().create_task(asyncio.Event().wait())
        await SharedMaster(cast(Any, Stuck()), cast(Any, task)).stop(0.0)
        assert task.cancelled()

    asyncio.run(run())
