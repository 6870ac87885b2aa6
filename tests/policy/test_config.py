"""A configuration that loads: every key, both forms, profiles and what they inherit (spec A1, B1, B7.1)."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.config import default_config_text, load_config
from codex_network_proxy.policy.hosts import Host
from codex_network_proxy.policy.listeners import ListenAddress
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.settings import HookSettings, InjectSettings, NetworkSettings

from .config_texts import FILE, README_SAMPLE, load, texts


def test_the_sample_of_the_readme_loads_as_printed() -> None:
    loaded = load_config(README_SAMPLE, file=FILE)
    settings = loaded.settings
    assert loaded.profile == "workspace"
    assert settings.enabled
    assert not settings.mitm
    assert settings.mode is NetworkMode.FULL
    assert texts(settings.allowed) == ["*.openai.com", "localhost", "127.0.0.1", "::1"]
    assert texts(settings.denied) == ["evil.example"]
    assert settings.unix_sockets == ("/tmp/example.sock",)
    assert str(settings.http_bind.address) == "127.0.0.1:3128"
    assert str(settings.socks_bind.address) == "127.0.0.1:8081"
    assert settings.hooks == (
        HookSettings(
            index=0,
            host=Host("api.github.com"),
            methods=("POST", "PUT"),
            path_prefixes=("/repos/openai/",),
            headers=(("x-github-api-version", ("2022-11-28",)),),
            strip=("authorization",),
            inject=(InjectSettings("authorization", env="CODEX_GITHUB_TOKEN", prefix="Bearer "),),
        ),
    )
    assert [(warning.place, warning.line) for warning in loaded.warnings] == [
        ("permissions.workspace.network.mitm", 19),
        ("permissions.workspace.network.mitm_hooks[0].host", 37),
    ]


def test_the_built_in_profile_loads_without_a_warning() -> None:
    loaded = load_config(default_config_text(), file="built-in")
    assert loaded.warnings == ()
    assert (
        loaded.settings
        == load('enabled = true\nallowed_domains = ["*.openai.com", "localhost", "127.0.0.1", "::1"]').settings
    )


def test_an_empty_table_has_the_defaults_of_the_specification() -> None:
    settings = load("").settings
    assert settings == NetworkSettings()
    assert {field.name: getattr(settings, field.name) for field in fields(settings)} == {
        "enabled": False,
        "http_listen": ListenAddress(ip_address("127.0.0.1"), 3128),
        "socks_listen": ListenAddress(ip_address("127.0.0.1"), 8081),
        "enable_socks5": True,
        "enable_socks5_udp": True,
        "allow_upstream_proxy": True,
        "allow_non_loopback": False,
        "mode": NetworkMode.FULL,
        "allowed": (),
        "denied": (),
        "unix_sockets": (),
        "denied_unix_sockets": (),
        "allow_all_unix_sockets": False,
        "allow_local_binding": False,
        "mitm": False,
        "hooks": (),
        "hard_allowlist": False,
    }


KEYS = [
    pytest.param("enabled = true", "enabled", True, id="enabled"),
    pytest.param(
        'proxy_url = "http://0.0.0.0:1"', "http_listen", ListenAddress(ip_address("0.0.0.0"), 1), id="proxy_url"
    ),
    pytest.param(
        'socks_url = "socks5h://[::1]"', "socks_listen", ListenAddress(ip_address("::1"), 8081), id="socks_url"
    ),
    pytest.param("enable_socks5 = false", "enable_socks5", False, id="enable_socks5"),
    pytest.param("enable_socks5_udp = false", "enable_socks5_udp", False, id="enable_socks5_udp"),
    pytest.param("allow_upstream_proxy = false", "allow_upstream_proxy", False, id="allow_upstream_proxy"),
    pytest.param(
        "dangerously_allow_non_loopback_proxy = true",
        "allow_non_loopback",
        True,
        id="dangerously_allow_non_loopback_proxy",
    ),
    pytest.param(
        "dangerously_allow_all_unix_sockets = true",
        "allow_all_unix_sockets",
        True,
        id="dangerously_allow_all_unix_sockets",
    ),
    pytest.param('mode = "limited"', "mode", NetworkMode.LIMITED, id="mode limited"),
    pytest.param('mode = "full"', "mode", NetworkMode.FULL, id="mode full"),
    pytest.param("allow_local_binding = true", "allow_local_binding", True, id="allow_local_binding"),
    pytest.param("mitm = true", "mitm", True, id="mitm"),
    pytest.param(
        'allow_unix_sockets = ["/tmp/../run//a.sock", "//b", "/run/a.sock"]',
        "unix_sockets",
        ("/run/a.sock", "/b"),
        id="socket paths are collapsed, each once",
    ),
    pytest.param(
        'unix_sockets = { "/a" = "allow", "/b" = "deny", "/c" = "none" }',
        "unix_sockets",
        ("/a",),
        id="the map of sockets",
    ),
    pytest.param(
        'unix_sockets = { "/a" = "allow", "/b" = "deny", "/c" = "none" }',
        "denied_unix_sockets",
        ("/b", "/c"),
        id="denied sockets stay known, also when all others are allowed",
    ),
    pytest.param(
        'allow_unix_sockets = ["/a", "/b"]\nunix_sockets = { "/c/../a" = "deny" }',
        "unix_sockets",
        ("/b",),
        id="a socket that one form denies is denied",
    ),
]


@pytest.mark.parametrize(("toml", "name", "expected"), KEYS)
def test_a_key_has_its_setting(toml: str, name: str, expected: object) -> None:
    assert getattr(load(toml).settings, name) == expected


DOMAINS = [
    pytest.param('allowed_domains = ["B.com", "a.com."]', ["b.com", "a.com"], [], id="the list, canonical, in order"),
    pytest.param('domains = { "a.com" = "allow", "b.com" = "deny" }', ["a.com"], ["b.com"], id="the map"),
    pytest.param(
        'allowed_domains = ["a.com"]\ndenied_domains = ["b.com"]\n[permissions.w.network.domains]\n'
        '"c.com" = "allow"\n"d.com" = "deny"',
        ["a.com", "c.com"],
        ["b.com", "d.com"],
        id="both forms are merged, the lists first",
    ),
    pytest.param(
        'allowed_domains = ["a.com"]\ndomains = { "A.COM." = "deny" }',
        ["a.com"],
        ["a.com"],
        id="a pattern that one form denies is on the denylist, which wins",
    ),
    pytest.param(
        'domains = { "a.com" = "deny", "A.com" = "allow" }',
        ["a.com"],
        ["a.com"],
        id="two spellings in one map both count",
    ),
    pytest.param('allowed_domains = ["a.com", "A.com", "a.com:443"]', ["a.com", "a.com:443"], [], id="doubles go"),
]


@pytest.mark.parametrize(("toml", "allowed", "denied"), DOMAINS)
def test_the_forms_of_domains_are_merged(toml: str, allowed: list[str], denied: list[str]) -> None:
    settings = load(toml).settings
    assert (texts(settings.allowed), texts(settings.denied)) == (allowed, denied)


BINDS = [
    pytest.param("", "127.0.0.1:3128", id="loopback by itself"),
    pytest.param('proxy_url = "0.0.0.0"', "127.0.0.1:3128", id="clamped"),
    pytest.param(
        'proxy_url = "0.0.0.0"\ndangerously_allow_non_loopback_proxy = true', "0.0.0.0:3128", id="opened on purpose"
    ),
    pytest.param('proxy_url = "::1"', "[::1]:3128", id="other loopback stays"),
    pytest.param(
        'proxy_url = "::1"\nallow_unix_sockets = ["/a"]', "127.0.0.1:3128", id="unix sockets ask for 127.0.0.1"
    ),
    pytest.param(
        'proxy_url = "::1"\ndangerously_allow_all_unix_sockets = true', "127.0.0.1:3128", id="all unix sockets too"
    ),
    pytest.param(
        'proxy_url = "::1"\nunix_sockets = { "/a" = "deny" }', "[::1]:3128", id="a denied socket is not configured"
    ),
]


@pytest.mark.parametrize(("toml", "bound"), BINDS)
def test_listeners_are_clamped(toml: str, bound: str) -> None:
    assert str(load(toml).settings.http_bind.address) == bound


ONE_PORT = 'proxy_url = "127.0.0.1:9000"\nsocks_url = "127.0.0.1:9000"\n'


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        pytest.param("", None, id="two ports of their own"),
        pytest.param(ONE_PORT, "127.0.0.1:9000 is both proxy_url and socks_url; write two ports", id="one for both"),
        pytest.param(f"{ONE_PORT}enable_socks5 = false\n", None, id="one, with SOCKS5 switched off"),
        pytest.param(ONE_PORT.replace("9000", "0"), None, id="any free port for each"),
        pytest.param(ONE_PORT.replace("127.0.0.1", "127.0.0.2", 1), None, id="one port at two addresses"),
    ],
)
def test_two_listeners_need_two_ports(lines: str, problem: str | None) -> None:
    assert load(lines).settings.listen_problem == problem
