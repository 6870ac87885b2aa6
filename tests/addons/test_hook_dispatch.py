"""The addon manager with its look-ups done once: same functions, same order, same errors as the engine's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from mitmproxy import exceptions, http, options
from mitmproxy.addonmanager import AddonManager
from mitmproxy.master import Master
from mitmproxy.proxy.layers.http import HttpRequestHook
from mitmproxy.test import tflow

from codex_network_proxy.addons.hook_dispatch import CachedAddons, arguments_of

Notes = list[str]


class Plain:
    def __init__(self, name: str, notes: Notes, failure: Exception | None = None) -> None:
        self.name = name
        self._notes = notes
        self._failure = failure

    def request(self, flow: http.HTTPFlow) -> None:
        self._notes.append(self.name)
        if self._failure:
            raise self._failure


class Later(Plain):
    async def request(self, flow: http.HTTPFlow) -> None:  # type: ignore[override]  # the engine takes both kinds
        await asyncio.sleep(0)
        super().request(flow)


class Parent:
    def __init__(self, name: str, children: list[object]) -> None:
        self.name = name
        self.addons = children


class Watching:
    name = "watching"

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def update(self, flows: list[http.HTTPFlow]) -> None:
        self._notes.append("update")


Chain = Callable[[Notes], list[object]]

CHAINS: dict[str, tuple[Chain, Notes]] = {
    "functions run in the order of the chain": (
        lambda notes: [Plain("a", notes), Later("b", notes), Plain("c", notes)],
        ["a", "b", "c"],
    ),
    "children run in their parent's place": (
        lambda notes: [Parent("p", [Plain("a", notes), Plain("b", notes)]), Plain("c", notes)],
        ["a", "b", "c"],
    ),
    "an error ends its own addon and no other": (
        lambda notes: [Parent("p", [Plain("a", notes, RuntimeError("x")), Plain("b", notes)]), Plain("c", notes)],
        ["a", "c"],
    ),
    "an awaited error does so too": (
        lambda notes: [Later("a", notes, RuntimeError("x")), Plain("b", notes)],
        ["a", "b"],
    ),
    "a halt ends the event for all": (
        lambda notes: [Plain("a", notes, exceptions.AddonHalt()), Plain("b", notes)],
        ["a"],
    ),
    "whoever watches flows hears of the update": (
        lambda notes: [Watching(notes), Plain("a", notes)],
        ["a", "update"],
    ),
}


def run(manager: type[AddonManager], chain: Chain) -> Notes:
    notes: Notes = []

    async def main() -> None:
        master = Master(options.Options())
        master.addons = manager(master)
        master.addons.add(*chain(notes))
        for _ in range(2):
            await master.addons.handle_lifecycle(HttpRequestHook(tflow.tflow()))

    asyncio.run(main())
    return notes


@pytest.mark.parametrize(("chain", "expected"), CHAINS.values(), ids=CHAINS.keys())
@pytest.mark.parametrize("manager", [AddonManager, CachedAddons], ids=["the engine's", "ours"])
def test_a_hook_is_dispatched(manager: type[AddonManager], chain: Chain, expected: Notes) -> None:
    assert run(manager, chain) == expected * 2


def test_an_addon_that_comes_or_goes_later_is_noticed() -> None:
    notes: Notes = []

    async def main() -> None:
        master = Master(options.Options())
        master.addons = CachedAddons(master)
        first, second = Plain("first", notes), Plain("second", notes)
        master.addons.add(first)  # type: ignore[no-untyped-call]  # the engine's own
        hook = HttpRequestHook(tflow.tflow())
        await master.addons.handle_lifecycle(hook)
        master.addons.add(second)  # type: ignore[no-untyped-call]  # the engine's own
        await master.addons.handle_lifecycle(hook)
        master.addons.remove(first)
        await master.addons.handle_lifecycle(hook)

    asyncio.run(main())
    assert notes == ["first", "first", "second", "second"]


def test_a_hook_is_called_with_what_it_holds() -> None:
    flow = tflow.tflow()
    assert arguments_of(HttpRequestHook(flow)) == (flow,)
