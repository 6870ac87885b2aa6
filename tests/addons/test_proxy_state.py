"""A configuration that the program holds: what replaces it is in force like a changed file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from codex_network_proxy import ConfigError, NetworkMode, NetworkProxy, NetworkProxyState, NetworkSettings
from codex_network_proxy.addons import reload
from codex_network_proxy.addons.proxy_state import StateConfig

from .library_kit import OPEN, builder, get, reasons, tunnel, until


def test_a_state_that_is_replaced_is_in_force_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "RELOAD_INTERVAL", 0.001)
    state = NetworkProxyState(OPEN)

    async def main() -> None:
        async with builder(tmp_path).state(state).start() as one, builder(tmp_path / "two").state(state).start() as two:
            assert (await tunnel(one, "other.test", 443)).status == 403
            state.replace({**OPEN, "mode": "limited"})
            await until(lambda: one.network_mode is two.network_mode is NetworkMode.LIMITED)

    asyncio.run(main())


def test_a_reload_takes_it_at_once_and_undoes_what_code_has_added(tmp_path: Path) -> None:
    state = NetworkProxyState(OPEN)

    async def main() -> None:
        async with builder(tmp_path).state(state).start() as proxy:
            proxy.add_allowed_domain("other.test")
            state.replace({**OPEN, "denied_domains": ["allowed.test"]})
            await proxy.reload()
            assert (await get(proxy, "allowed.test", 1)).status == 403
            assert (await get(proxy, "other.test", 1)).status == 403
            assert reasons(proxy) == [("allowed.test", "denied"), ("other.test", "not_allowed")]

    asyncio.run(main())


def test_a_state_that_is_wrong_is_refused_and_the_old_one_stays() -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        NetworkProxyState({"mod": "full"})
    state = NetworkProxyState(NetworkSettings(enabled=True))
    with pytest.raises(ConfigError, match="is not a mode"):
        state.replace({"mode": "ful"})
    assert state.current()[1].settings == NetworkSettings(enabled=True)


def test_a_change_is_noticed_until_it_is_loaded(tmp_path: Path) -> None:
    state = NetworkProxyState({})
    looks = [StateConfig(state, tmp_path), StateConfig(state, tmp_path)]
    for look in looks:
        assert look.load().settings == NetworkSettings()
    state.replace({"enabled": True})
    assert [look.changed() for look in looks] == [True, True]
    assert looks[0].load().settings.enabled
    assert [look.changed() for look in looks] == [False, True]


def test_a_file_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "RELOAD_INTERVAL", 0.001)
    head = 'default_permissions = "p"\n[permissions.p.network]\nenabled = true\nproxy_url = "http://127.0.0.1:0"\n'
    (tmp_path / "config.toml").write_text(head)

    async def main() -> None:
        made = NetworkProxy.builder().home(tmp_path).socks_addr("127.0.0.1:0")
        async with made.start() as proxy:
            (tmp_path / "config.toml").write_text(head + 'mode = "limited"\n')
            await until(lambda: proxy.network_mode is NetworkMode.LIMITED)

    asyncio.run(main())
