"""Profiles: what a child inherits and overrides, and what is selected (spec A1.1, B1.3)."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.settings import NetworkSettings

from .config_texts import FILE, texts

PROFILES = """
default_permissions = "child"
unrelated = { tables = ["are", 1.5, "ignored"] }
[permissions.base]
description = "ignored"
[permissions.base.network]
enabled = true
mode = "limited"
allowed_domains = ["base.com"]
[permissions.base.network.domains]
"SHARED.EXAMPLE.COM." = "deny"
"base-only.com" = "deny"
[permissions.base.network.unix_sockets]
"/run/../a" = "deny"
[permissions.base.filesystem]
ignored = true
[permissions.child]
extends = "base"
[permissions.child.network]
mode = "full"
allowed_domains = ["child.com"]
domains = { "shared.example.com" = "allow" }
unix_sockets = { "/a" = "allow" }
[permissions.quiet]
extends = ":workspace"
[permissions.grandchild]
extends = "child"
[permissions.grandchild.network]
enabled = false
[permissions.broken]
network = 5
extends = 7
"""


def test_a_child_overrides_its_parent_key_by_key() -> None:
    settings = load_config(PROFILES, file=FILE).settings
    assert settings.enabled
    assert settings.mode is NetworkMode.FULL
    assert texts(settings.allowed) == ["child.com", "shared.example.com"]
    assert texts(settings.denied) == ["base-only.com"]
    assert (settings.unix_sockets, settings.denied_unix_sockets) == (("/a",), ())


def test_what_is_inherited_over_two_generations_counts() -> None:
    settings = load_config(PROFILES, file=FILE, profile="grandchild").settings
    assert not settings.enabled
    assert texts(settings.allowed) == ["child.com", "shared.example.com"]


def test_a_built_in_parent_says_nothing_about_the_network() -> None:
    assert load_config(PROFILES, file=FILE, profile="quiet").settings == NetworkSettings()


def test_the_profile_can_be_overridden() -> None:
    loaded = load_config(PROFILES, file=FILE, profile="base")
    assert loaded.profile == "base"
    assert texts(loaded.settings.allowed) == ["base.com"]
    assert loaded.settings.denied_unix_sockets == ("/a",)


UNSELECTED = [
    pytest.param("", "no permissions profile is selected", id="an empty file"),
    pytest.param("model = 'x'\npermissions = 5", "no permissions profile is selected", id="settings of others"),
    pytest.param(
        "[permissions.mine.network]\nenabled = true",
        "config defines `[permissions]` profiles but does not set `default_permissions`, so the proxy is disabled; "
        'write default_permissions = "mine"',
        id="profiles, and none selected",
    ),
]


@pytest.mark.parametrize(("text", "words"), UNSELECTED)
def test_a_file_that_selects_no_profile_is_disabled_and_says_so(text: str, words: str) -> None:
    loaded = load_config(text, file=FILE)
    assert loaded.settings == NetworkSettings()
    assert loaded.profile is None
    (warning,) = loaded.warnings
    assert str(warning).startswith("config.toml default_permissions: ")
    assert words in str(warning)
    assert "write default_permissions = " in str(warning)


def test_an_overridden_profile_needs_no_default() -> None:
    assert load_config("[permissions.mine.network]\nenabled = true", file=FILE, profile="mine").settings.enabled


def test_a_selected_profile_without_a_network_table_has_the_defaults() -> None:
    loaded = load_config('default_permissions = "w"\n[permissions.w]', file=FILE)
    assert loaded.settings == NetworkSettings()
