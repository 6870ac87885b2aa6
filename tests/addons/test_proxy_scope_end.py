"""How a way in for a single command ends, also when it never began: nothing is left open."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit.leaks import holdings
from tests.kit.raw import Client

from .library_kit import Thinking, builder, tunnel, until


def test_its_end_leaves_no_question_open(tmp_path: Path) -> None:
    async def main() -> None:
        decider = Thinking()
        async with builder(tmp_path).policy_decider(decider).start() as proxy:
            way = proxy.scope(command="slow")
            async with way:
                asking = asyncio.create_task(tunnel_to(way.http_address))
                await decider.begun.wait()
            await decider.ended.wait()
            with pytest.raises(asyncio.IncompleteReadError):
                await asking

    asyncio.run(main())


async def tunnel_to(address: str) -> object:
    class There:
        http_address = address

    return await tunnel(There(), "other.test", 443)  # type: ignore[arg-type]  # nothing else is asked of it


def test_a_hundred_scopes_leave_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with builder(tmp_path).start() as proxy:
            async with proxy.scope():
                pass
            before = holdings()
            for number in range(100):
                async with proxy.scope(command=str(number)):
                    pass
            assert not holdings().beyond(before)

    asyncio.run(main())


def test_the_end_of_the_proxy_is_the_end_of_its_scopes(tmp_path: Path) -> None:
    async def main() -> None:
        proxy = await builder(tmp_path).start()
        way = proxy.scope()
        async with way:
            address = way.http_address
            await proxy.shutdown()
            with pytest.raises(ConnectionRefusedError):
                Client(address)
        with pytest.raises(RuntimeError, match="does not run"):
            async with proxy.scope():
                pass

    asyncio.run(main())


def test_a_proxy_that_does_not_run_has_no_scopes(tmp_path: Path) -> None:
    proxy = builder(tmp_path).build_sync()
    with pytest.raises(RuntimeError, match="does not run"), proxy.scope():
        pass
    proxy.shutdown_sync()


def test_an_opening_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with builder(tmp_path).start() as proxy:
            before = holdings()
            opening = asyncio.create_task(proxy.scope().__aenter__())
            await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            await until(lambda: not holdings().beyond(before))

    asyncio.run(main())
