"""The configuration of a proxy for one command: what the command line adds to the file's, and what it cannot open."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_network_proxy.addons.command_config import CommandConfig
from codex_network_proxy.addons.config_file import ConfigWatch, find_config
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.patterns import parse_pattern
from codex_network_proxy.policy.settings import NetworkSettings

FILE = """
default_permissions = "p"
[permissions.p.network]
enabled = true
allowed_domains = ["a.test"]
denied_domains = ["evil.test"]
proxy_url = "http://0.0.0.0:3128"
socks_url = "http://0.0.0.0:8081"
dangerously_allow_non_loopback_proxy = true
"""


@pytest.fixture
def file(tmp_path: Path) -> ConfigWatch:
    (tmp_path / "config.toml").write_text(FILE)
    return ConfigWatch(find_config({"CODEX_HOME": str(tmp_path)}))


def laid_over(file: ConfigWatch, **given: object) -> NetworkSettings:
    config = CommandConfig(file, **given)  # type: ignore[arg-type]  # rows name real fields
    assert config.source == file.source
    settings = config.load().settings
    assert not config.changed()
    place = config.origins().key("proxy_url")
    assert place is not None
    assert place.line == 7
    return settings


def test_the_listeners_are_on_free_ports_of_this_machine(file: ConfigWatch) -> None:
    settings = laid_over(file)
    assert str(settings.http_bind.address) == str(settings.socks_bind.address) == "127.0.0.1:0"
    assert settings.enable_socks5_udp


def test_patterns_are_added_once_and_deny_keeps_its_word(file: ConfigWatch) -> None:
    settings = laid_over(file, allow=tuple(map(parse_pattern, ("b.test", "a.test", "evil.test"))))
    assert [str(pattern) for pattern in settings.allowed] == ["a.test", "b.test", "evil.test"]
    assert [str(pattern) for pattern in settings.denied] == ["evil.test"]


def test_limited_mode_reads_https(file: ConfigWatch) -> None:
    assert (laid_over(file).mode, laid_over(file).mitm) == (NetworkMode.FULL, False)
    narrowed = laid_over(file, limited=True)
    assert (narrowed.mode, narrowed.mitm) == (NetworkMode.LIMITED, True)


def test_the_command_cannot_move_its_fence(file: ConfigWatch) -> None:
    config = CommandConfig(file)
    before = config.load()
    file.source.path.write_text(FILE.replace("a.test", "evil.test"))
    assert not config.changed()
    assert config.load() is before


def test_datagrams_do_not_reach_another_network(file: ConfigWatch) -> None:
    assert not laid_over(file, own_network=True).enable_socks5_udp
