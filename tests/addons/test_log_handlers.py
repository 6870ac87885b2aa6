"""A log handler of the embedding program that raises: nobody is kept waiting for that, and no proxy ends."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_network_proxy import NetworkDecision, NetworkPolicyRequest, NetworkProxy
from codex_network_proxy.addons.contained_logs import contain
from codex_network_proxy.addons.embedder import NAME as CALLBACKS
from codex_network_proxy.addons.library_thread import NAME
from tests.kit.origins import HttpOrigin

from .library_kit import builder, get, tunnel, until


class Broken(logging.Handler):
    """Raises whatever is logged in a thread of the proxy; `told` is what the program heard of that."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error
        self.loggers: set[str] = set()
        self.texts: list[str] = []
        self.told: list[type[BaseException]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.threadName in (NAME, CALLBACKS):
            self.loggers.add(record.name)
            self.texts.append(record.getMessage())
            raise self.error("canary")

    def hear(self, raised: threading.ExceptHookArgs) -> None:
        self.told.append(raised.exc_type)


@pytest.fixture(params=[RuntimeError, SystemExit])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broken]:
    handler = Broken(request.param)
    monkeypatch.setattr(threading, "excepthook", handler.hear)
    root, engine = logging.getLogger(), logging.getLogger("mitmproxy")
    monkeypatch.setattr(root, "level", logging.DEBUG)
    monkeypatch.setattr(engine, "level", logging.INFO)
    for each in (root, engine):
        each.manager._clear_cache()  # type: ignore[attr-defined]  # of what is enabled
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    root.manager._clear_cache()  # type: ignore[attr-defined]


async def failing(_: NetworkPolicyRequest) -> NetworkDecision:
    raise KeyError("canary")


async def all_kinds(proxy: NetworkProxy, origin: HttpOrigin) -> list[int]:
    """What the door answers by itself, what the engine serves, and what fails on the way."""
    return [
        (await tunnel(proxy, "denied.test", 443)).status,
        (await tunnel(proxy, "other.test", 443)).status,
        (await tunnel(proxy, "allowed.test", origin.port)).status,
        (await get(proxy, "denied.test", origin.port)).status,
        (await get(proxy, "other.test", origin.port)).status,
        (await get(proxy, "allowed.test", origin.port)).status,
        (await get(proxy, "allowed.test", 1)).status,
    ]


def test_every_client_is_answered_all_the_same(tmp_path: Path, origin: HttpOrigin, broken: Broken) -> None:
    async def main() -> list[int]:
        async with builder(tmp_path).policy_decider(failing).start() as proxy:
            return await all_kinds(proxy, origin)

    assert asyncio.run(main()) == [403, 403, 200, 403, 403, 200, 502]
    assert {"codex_network_proxy", "mitmproxy.proxy.server"} <= broken.loggers
    assert set(broken.told) == {broken.error}


def test_what_nobody_awaits_in_the_thread_ends_nothing(tmp_path: Path, origin: HttpOrigin, broken: Broken) -> None:
    """The event loop tells of it in the log, and of the log that raises in the log again."""

    async def break_something() -> None:
        asyncio.get_running_loop().call_soon(dict[str, str]().pop, "canary")

    async def main() -> list[int]:
        async with builder(tmp_path).start() as proxy:
            for engine_runs in (False, True):
                broken.loggers.clear()
                proxy._life.submit(break_something).result()
                await until(lambda: "asyncio" in broken.loggers)
                assert (await get(proxy, "denied.test", origin.port)).status == 403, engine_runs
            return await all_kinds(proxy, origin)

    assert asyncio.run(main()) == [403, 403, 200, 403, 403, 200, 502]
    assert not [text for text in broken.texts if "internal error" in text], "nor does it reach the loop"


def test_nor_does_it_end_the_thread_of_the_programs_functions(
    tmp_path: Path, origin: HttpOrigin, broken: Broken
) -> None:
    async def careless(_: NetworkPolicyRequest) -> NetworkDecision:
        asyncio.get_running_loop().call_soon(dict[str, str]().pop, "canary")
        await asyncio.sleep(0)
        return NetworkDecision.allow()

    with builder(tmp_path).policy_decider(careless).start_sync() as proxy:
        for _ in range(3):
            assert asyncio.run(tunnel(proxy, "other.test", origin.port)).status == 200
    assert "asyncio" in broken.loggers


def test_what_ends_the_loop_of_the_thread_ends_no_proxy(tmp_path: Path, origin: HttpOrigin) -> None:
    def exits() -> None:
        raise SystemExit

    async def main() -> None:
        async with builder(tmp_path).start() as proxy:
            running = proxy._life._running
            assert running
            running.thread._loop.call_soon_threadsafe(exits)
            assert (await get(proxy, "allowed.test", origin.port)).status == 200

    asyncio.run(main())


def test_a_program_may_exit_in_a_handler_of_its_own_thread() -> None:
    class Exits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit

    logger = logging.getLogger("codex_network_proxy.test")
    contain(logger)
    contain(logger)
    handler = Exits()
    logger.addHandler(handler)
    try:
        with pytest.raises(SystemExit):
            logger.error("canary")
    finally:
        logger.removeHandler(handler)
