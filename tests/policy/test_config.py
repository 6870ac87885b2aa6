"""A configuration that loads: every key, both forms, profiles and what they inherit (spec A1, B1, B7.1)."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.config import LoadedConfig, default_config_text, load_config
from codex_network_proxy.policy.hosts import Host
from codex_network_proxy.policy.listeners import ListenAddress
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.settings import HookSettings, InjectSettings, NetworkSettings, Place

README_SAMPLE = """\
default_permissions = "workspace"
[permissions.workspace.network]
enabled = true
proxy_url = "http://127.0.0.1:3128"
# SOCKS5 listener (enabled by default).
enable_socks5 = true
socks_url = "http://127.0.0.1:8081"
enable_socks5_udp = true
# When `enabled` is false, the proxy no-ops and does not bind listeners.
# When true, respect HTTP(S)_PROXY/ALL_PROXY for upstream requests (HTTP(S) proxies only),
# including CONNECT tunnels in full mode.
allow_upstream_proxy = true
# By default, non-loopback binds are clamped to loopback for safety.
# If you want to expose these listeners beyond localhost, you must opt in explicitly.
dangerously_allow_non_loopback_proxy = false
mode = "full" # default when unset; hooks can still clamp specific HTTPS hosts
# When true, HTTPS CONNECT can be terminated so limited-mode policy and host-specific MITM hooks
# can inspect inner requests.
mitm = false
# CA cert/key are managed internally under $CODEX_HOME/proxy/ (ca.pem + ca.key).
# Hosts must match the allowlist (unless denied).
# Use exact hosts or scoped wildcards like `*.openai.com` or `**.openai.com`.
# The global `*` wildcard is rejected.
# If `allowed_domains` is empty, the proxy blocks requests until an allowlist is configured.
allowed_domains = ["*.openai.com", "localhost", "127.0.0.1", "::1"]
denied_domains = ["evil.example"]
# If false, local/private networking is rejected. Explicit allowlisting of local IP literals
# (or `localhost`) is required to permit them.
# Hostnames that resolve to local/private IPs are still blocked even if allowlisted.
allow_local_binding = false
# macOS-only: allows proxying to a unix socket when request includes `x-unix-socket: /path`.
allow_unix_sockets = ["/tmp/example.sock"]
# DANGEROUS (macOS-only): bypasses unix socket allowlisting and permits any
# absolute socket path from `x-unix-socket`.
dangerously_allow_all_unix_sockets = false
[[permissions.workspace.network.mitm_hooks]]
host = "api.github.com"
[permissions.workspace.network.mitm_hooks.match]
methods = ["POST", "PUT"]
path_prefixes = ["/repos/openai/"]
[permissions.workspace.network.mitm_hooks.match.headers]
"x-github-api-version" = ["2022-11-28"]
[permissions.workspace.network.mitm_hooks.actions]
strip_request_headers = ["authorization"]
[[permissions.workspace.network.mitm_hooks.actions.inject_request_headers]]
name = "authorization"
secret_env_var = "CODEX_GITHUB_TOKEN"
prefix = "Bearer "
# `match.body` is reserved for a future release. Current hooks match only on
# method/path/query/headers and can mutate outbound request headers.
"""

FILE = "config.toml"


def load(network: str) -> LoadedConfig:
    """Loads keys of the network table of a profile `w`, which are the third line and the following ones."""
    return load_config(f'default_permissions = "w"\n[permissions.w.network]\n{network}', file=FILE)


def texts(patterns: object) -> list[str]:
    return [str(pattern) for pattern in patterns]  # type: ignore[attr-defined]


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


TABLE_FORM = """
[permissions.w.network.mitm.hooks.push]
host = "GitHub.com"
methods = [" post ", "GET"]
path_prefixes = ["pattern:/a/*", "literal:pattern:x"]
query = { state = ["open"] }
headers = { X-A = [], x-a = ["b"] }
action = ["token", "missing", "clean"]
[permissions.w.network.mitm.hooks.read]
host = "b.com"
methods = ["GET"]
path_prefixes = ["/"]
action = ["clean"]
[permissions.w.network.mitm.actions.clean]
strip_request_headers = ["Cookie"]
[permissions.w.network.mitm.actions.token]
strip_request_headers = ["authorization"]
inject_request_headers = [{ name = "Authorization", secret_file = "/run/token" }]
"""

LIST_HOOK = """
[[permissions.w.network.mitm_hooks]]
host = "[::1]"
match = { methods = ["GET"], path_prefixes = ["/"] }
"""


def test_the_table_form_of_mitm_has_named_hooks_and_actions() -> None:
    push, read = load(TABLE_FORM).settings.hooks
    assert push == HookSettings(
        index=0,
        host=Host("github.com"),
        methods=("POST", "GET"),
        path_prefixes=("pattern:/a/*", "literal:pattern:x"),
        query=(("state", ("open",)),),
        headers=(("x-a", ()), ("x-a", ("b",))),
        strip=("authorization", "cookie"),
        inject=(InjectSettings("authorization", file="/run/token"),),
    )
    assert (read.index, read.host.text, read.strip) == (1, "b.com", ("cookie",))


def test_hooks_of_both_forms_are_tried_in_order_the_list_first() -> None:
    hooks = load(TABLE_FORM + LIST_HOOK).settings.hooks
    assert [(hook.index, hook.host.text) for hook in hooks] == [(0, "::1"), (1, "github.com"), (2, "b.com")]


def test_a_hook_and_its_secrets_know_where_they_stand() -> None:
    first, second, _ = load(TABLE_FORM + LIST_HOOK).settings.hooks
    assert first.place == Place("permissions.w.network.mitm_hooks[0]", 22, FILE)
    assert second.place == Place("permissions.w.network.mitm.hooks.push", 4, FILE)
    token = Place("permissions.w.network.mitm.actions.token.inject_request_headers[0]", 20, FILE)
    assert second.inject[0].place == token


def test_a_prefix_and_header_values_stay_out_of_repr() -> None:
    shown = repr(load_config(README_SAMPLE, file=FILE).settings)
    assert "Bearer" not in shown
    assert "2022-11-28" not in shown


MITM = [
    pytest.param("mitm = false" + LIST_HOOK, False, id="off is off, whatever hooks there are"),
    pytest.param("mitm = true" + LIST_HOOK, True, id="on"),
    pytest.param(LIST_HOOK, False, id="hooks alone do not switch the old form on"),
    pytest.param('mode = "limited"', False, id="limited mode alone does not switch the old form on"),
    pytest.param(TABLE_FORM, True, id="the table form is on by itself when there are hooks"),
    pytest.param("mitm = {}" + LIST_HOOK, True, id="also when they are in the list"),
    pytest.param('mitm = {}\nmode = "limited"', True, id="the table form is on by itself in limited mode"),
    pytest.param("mitm = {}", False, id="an empty table has nothing to inspect"),
]


@pytest.mark.parametrize(("toml", "expected"), MITM)
def test_when_mitm_is_on(toml: str, expected: bool) -> None:
    assert load(toml).settings.mitm is expected


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
