"""How a proxy inside another program starts: with what it was told, or not at all and leaving nothing."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import socket
import threading
from pathlib import Path

import pytest

from codex_network_proxy import (
    ConfigError,
    NetworkProxy,
    NetworkSettings,
)
from tests.kit.leaks import holdings

from .library_kit import ask, builder, tunnel, until


def test_everything_wrong_with_the_configuration_is_said_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    async def main() -> list[str]:
        before = holdings()
        with pytest.raises(ConfigError) as caught:
            await builder(tmp_path, mode="ful", allowed_domians=[]).build()
        assert not holdings().beyond(before)
        return [str(problem) for problem in caught.value.problems]

    assert asyncio.run(main()) == [
        'config network.mode: "ful" is not a mode; write "limited" or "full"',
        "config network.allowed_domians: unknown key; did you mean `allowed_domains`?",
    ]


@pytest.mark.parametrize("mitm", [False, True])
def test_a_secret_that_is_missing_stops_the_start_and_leaves_nothing(mitm: bool, tmp_path: Path) -> None:
    hook = {
        "host": "hooked.test",
        "match": {"methods": ["GET"], "path_prefixes": ["/"]},
        "actions": {"inject_request_headers": [{"name": "authorization", "secret_env_var": "TOKEN"}]},
    }

    async def main() -> None:
        before = holdings()
        made = builder(tmp_path, mitm=mitm, mitm_hooks=[hook])
        if mitm:
            with pytest.raises(ConfigError, match="missing required environment variable TOKEN"):
                await made.build()
            assert not holdings().beyond(before)
        else:
            await (await made.build()).shutdown()
            assert not holdings().beyond(before)

    asyncio.run(main())


def test_an_address_that_is_taken_stops_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        before = holdings()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            proxy = await builder(tmp_path).http_addr(address).build()
            with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is asserted below
                await proxy.run()
            assert caught.value.errno == errno.EADDRINUSE
            assert proxy.handle.is_over
            with pytest.raises(RuntimeError, match="a proxy runs once"):
                await proxy.run()
        assert not holdings().beyond(before)

    asyncio.run(main())


def test_a_build_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    """The loop may be over before it is."""

    async def give_up() -> None:
        building = asyncio.create_task(builder(tmp_path).build())
        await asyncio.sleep(0)
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building

    async def built_and_gone() -> None:
        await until((tmp_path / "log" / "network-proxy.jsonl").exists)
        await until(lambda: set(threading.enumerate()) <= threads)

    before, threads = holdings(), set(threading.enumerate())
    gc.disable()  # nothing is left to it
    try:
        asyncio.run(give_up())
        asyncio.run(built_and_gone())
    finally:
        gc.enable()
    assert not holdings().beyond(before)


def test_a_disabled_proxy_binds_nothing_and_is_over_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        before = holdings()
        proxy = await builder(tmp_path, enabled=False).build()
        handle = await proxy.run()
        await handle.wait()
        assert not holdings().beyond(before)
        await handle.shutdown()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "network.enabled is false; skipping proxy listeners" in caplog.messages


@pytest.mark.parametrize(
    ("asked", "bound"),
    [
        pytest.param("127.0.0.1:0", "127.0.0.1", id="a free port"),
        pytest.param("localhost:0", "127.0.0.1", id="this machine by name"),
        pytest.param("0.0.0.0:0", "127.0.0.1", id="everywhere, clamped to loopback"),
        pytest.param("[::1]:0", "[::1]", id="IPv6"),
    ],
)
def test_the_address_is_the_one_that_was_bound(asked: str, bound: str, tmp_path: Path) -> None:
    async def main() -> None:
        proxy = await builder(tmp_path).http_addr(asked).build()
        assert proxy.http_address == f"{bound}:0"
        handle = await proxy.run()
        host, _, port = proxy.http_address.rpartition(":")
        assert host == bound
        assert int(port) > 0
        assert (await ask(proxy.http_address, b"CONNECT other.test:1 HTTP/1.1\r\n\r\n")).status == 403
        await handle.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize(
    "address", ["example.com:80", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", "", "http://127.0.0.1:80"]
)
def test_an_address_that_would_mean_another_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        NetworkProxy.builder().http_addr(address)
    with pytest.raises(ValueError, match=r"."):
        NetworkProxy.builder().socks_addr(address)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_time_out_that_never_comes_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        NetworkProxy.builder().decider_timeout(seconds)


def test_a_pin_without_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        NetworkProxy.builder().resolve("a.test", "nowhere")


def test_a_file_is_watched_and_its_profile_may_be_chosen(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"

    def write(allowed: str) -> None:
        file.write_text(
            'default_permissions = "other"\n[permissions.other.network]\n[permissions.mine.network]\nenabled = true\n'
            f'proxy_url = "http://127.0.0.1:0"\nallowed_domains = ["{allowed}"]\n'
        )

    async def main() -> None:
        write("one.test")
        made = NetworkProxy.builder().config_file(file, "mine").environ({"HOME": str(tmp_path)})
        async with made.start() as proxy:
            assert [str(pattern) for pattern in proxy.current_config.allowed] == ["one.test"]
            write("two.test")
            await proxy.reload()
            assert [str(pattern) for pattern in proxy.current_config.allowed] == ["two.test"]
            file.write_text("broken")
            await proxy.reload()
            assert (await tunnel(proxy, "two.test", 443)).status == 500
            write("three.test")
            await asyncio.to_thread(proxy.reload_sync)
            assert [str(pattern) for pattern in proxy.current_config.allowed] == ["three.test"]

    asyncio.run(main())


def test_settings_that_were_checked_elsewhere_are_taken_as_they_are(tmp_path: Path) -> None:
    proxy = NetworkProxy.builder().config(NetworkSettings(enabled=True)).home(tmp_path).build_sync()
    assert proxy.current_config == NetworkSettings(enabled=True)
    proxy.shutdown_sync()


def test_without_a_configuration_the_file_of_the_home_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'default_permissions = "a"\n[permissions.a.network]\nallowed_domains = ["from-file.test"]\n'
    )
    proxy = NetworkProxy.builder().home(tmp_path).build_sync()
    assert [str(pattern) for pattern in proxy.current_config.allowed] == ["from-file.test"]
    proxy.shutdown_sync()


def test_one_builder_makes_several_proxies(tmp_path: Path) -> None:
    made = builder(tmp_path)
    with made.start_sync() as one, made.start_sync() as two:
        assert one.http_address != two.http_address
