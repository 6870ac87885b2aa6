"""How a proxy inside another program ends: once, whole, and whoever asks for it."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codex_network_proxy.addons.library_thread import NAME
from tests.kit.forks import forked
from tests.kit.leaks import holdings
from tests.kit.origins import HttpOrigin
from tests.kit.raw import Client, connect

from .library_kit import Thinking, ask, builder, tunnel


@contextmanager
def unraisable() -> Iterator[list[type[BaseException] | None]]:
    """What is raised where nobody can catch it."""
    raised: list[type[BaseException] | None] = []
    before, sys.unraisablehook = sys.unraisablehook, lambda told: raised.append(told.exc_type)
    try:
        yield raised
    finally:
        sys.unraisablehook = before


def test_shutdown_may_be_called_again_and_by_several(tmp_path: Path) -> None:
    async def main() -> None:
        proxy = await builder(tmp_path).start()
        waiting = asyncio.create_task(proxy.handle.wait())
        await asyncio.gather(*(proxy.shutdown() for _ in range(5)))
        await waiting
        await proxy.shutdown()
        proxy.shutdown_sync()
        proxy.handle.wait_sync(0)

    asyncio.run(main())


def test_waiting_for_a_proxy_that_goes_on_can_be_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with builder(tmp_path).start() as proxy:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(proxy.handle.wait(), 0.01)
            with pytest.raises(TimeoutError):
                proxy.handle.wait_sync(0.01)
            assert not proxy.handle.is_over
            assert (await tunnel(proxy, "other.test", 443)).status == 403

    asyncio.run(main())


def test_shutdown_ends_a_decider_that_still_thinks(tmp_path: Path) -> None:
    async def main() -> None:
        decider = Thinking()
        proxy = await builder(tmp_path).policy_decider(decider).start()
        client = asyncio.create_task(tunnel(proxy, "other.test", 443))
        await decider.begun.wait()
        await proxy.shutdown()
        await decider.ended.wait()
        with pytest.raises(asyncio.IncompleteReadError):
            await client
        assert not [entry for entry in proxy.blocked_snapshot() if entry.decision == "allow"]

    asyncio.run(main())


def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        before = holdings()
        proxy = await builder(tmp_path).build()
        start = asyncio.create_task(proxy.run())
        await asyncio.sleep(0)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert proxy.handle.is_over
        assert not holdings().beyond(before)

    asyncio.run(main())


def test_a_shutdown_that_is_cancelled_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        proxy = await builder(tmp_path).start()
        ending = asyncio.create_task(proxy.shutdown())
        await asyncio.sleep(0)
        ending.cancel()
        await proxy.handle.wait()

    asyncio.run(main())


def test_a_proxy_that_is_forgotten_ends_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        before = holdings()
        proxy = await builder(tmp_path).start()
        address, thread = proxy.http_address, next(one for one in threading.enumerate() if "codex-net" in one.name)
        with pytest.warns(ResourceWarning, match=f"a proxy on {address} was never shut down"):
            del proxy
        await asyncio.to_thread(thread.join)
        with pytest.raises(ConnectionRefusedError):
            await ask(address, b"")
        await asyncio.get_running_loop().shutdown_default_executor()
        assert holdings().descriptors == before.descriptors

    asyncio.run(main())


def test_a_proxy_that_is_forgotten_ends_where_warnings_are_errors(tmp_path: Path) -> None:
    proxy = builder(tmp_path).start_sync()
    address, thread = proxy.http_address, next(one for one in threading.enumerate() if one.name == NAME)
    with warnings.catch_warnings(), unraisable() as raised:
        warnings.simplefilter("error")
        del proxy
    thread.join()
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(ask(address, b""))
    assert raised == [ResourceWarning]


def test_in_a_child_after_a_fork_the_proxy_is_over_and_the_parents_goes_on(tmp_path: Path) -> None:
    with builder(tmp_path).start_sync() as proxy:

        def ends() -> bool:
            proxy.shutdown_sync()
            proxy.shutdown_sync()
            return proxy.handle.is_over and not proxy.blocked_snapshot()

        with forked(ends):
            assert asyncio.run(tunnel(proxy, "other.test", 443)).status == 403


def test_a_child_after_a_fork_holds_nothing_open(tmp_path: Path, origin: HttpOrigin) -> None:
    proxy = builder(tmp_path).start_sync()
    address = proxy.http_address
    with Client(address) as client:
        assert client.ask(connect(f"allowed.test:{origin.port}"), "CONNECT").status == 200
        with forked():
            proxy.add_denied_domain("allowed.test")
            assert client.sock.recv(1) == b"", "cut"
            proxy.shutdown_sync()
            with pytest.raises(ConnectionRefusedError):
                asyncio.run(ask(address, b""))
            builder(tmp_path).http_addr(address).start_sync().shutdown_sync()


def test_a_proxy_that_was_built_and_never_run_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        before = holdings()
        await (await builder(tmp_path).build()).shutdown()
        assert not holdings().beyond(before)

    asyncio.run(main())
