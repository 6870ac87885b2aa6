"""What is in force is shown as a configuration that means the same, with the place of each part."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.config import load_config, load_with_origins
from codex_network_proxy.policy.effective import effective_lines

HEAD = 'default_permissions = "w"\n[permissions.w.network]\n'


def shown(text: str) -> list[str]:
    return list(effective_lines(*load_with_origins(text, file="c.toml")))


HOOKS = """
[[permissions.w.network.mitm_hooks]]
host = "a.test"
[permissions.w.network.mitm_hooks.match]
methods = ["get", "POST"]
path_prefixes = ["/x/", 'literal:/a"b\\c']
query = { "a b" = ["1", "2"] }
headers = { "X-Version" = [] }
[permissions.w.network.mitm_hooks.actions]
strip_request_headers = ["cookie"]
inject_request_headers = [
  { name = "authorization", secret_env_var = "TOKEN", prefix = "Bearer " },
  { name = "x-key", secret_file = "/run/key" },
]
"""
NAMED = """
[permissions.w.network.mitm.hooks.one]
host = "b.test"
methods = ["GET"]
path_prefixes = ["/"]
action = ["strip"]
[permissions.w.network.mitm.actions.strip]
strip_request_headers = ["cookie"]
"""
EVERYTHING = """enabled = true
proxy_url = "http://[::1]:4000"
socks_url = "127.0.0.1:0"
enable_socks5 = false
enable_socks5_udp = false
allow_upstream_proxy = false
dangerously_allow_non_loopback_proxy = true
dangerously_allow_all_unix_sockets = true
mode = "limited"
allow_local_binding = true
"""
CONFIGURATIONS = [
    pytest.param(HEAD, id="nothing"),
    pytest.param(HEAD + EVERYTHING, id="every switch"),
    pytest.param(
        HEAD + "allowed_domains = ['A.Test.', '*.b\u00fccher.test', '[::1]:443']\ndenied_domains = ['10.0.0.0/8']\n",
        id="lists",
    ),
    pytest.param(HEAD + "domains = { 'a.test' = 'allow', 'b.test' = 'deny' }\n", id="lists as a map"),
    pytest.param(HEAD + "allow_unix_sockets = ['/run/a.sock', '/run/\U0001f9e6\u202e.sock']\n", id="sockets"),
    pytest.param(HEAD + "unix_sockets = { '/a' = 'allow', '/b' = 'deny' }\n", id="sockets as a map"),
    pytest.param(HEAD + "mitm = true\n" + HOOKS, id="hooks"),
    pytest.param(HEAD + NAMED, id="named hooks"),
    pytest.param(
        'default_permissions = "the child"\n[permissions.w.network]\nmode = "limited"\n'
        "allowed_domains = ['a.test']\n[permissions.'the child']\nextends = 'w'\n"
        "[permissions.'the child'.network]\nenabled = true\n",
        id="a child of another profile",
    ),
]


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_what_is_shown_means_the_same(text: str) -> None:
    again = load_config("\n".join(shown(text)), file="again.toml")
    assert again.settings == load_config(text, file="c.toml").settings


def test_every_part_has_its_place() -> None:
    text = HEAD + "enabled = true\nallowed_domains = [\n  'A.test',\n  'b.test',\n]\n" + HOOKS
    assert shown(text) == [
        'default_permissions = "w"',
        "[permissions.w.network]",
        "enabled = true  # c.toml:3",
        'proxy_url = "http://127.0.0.1:3128"  # default',
        'mode = "full"  # default',
        "allow_local_binding = false  # default",
        "mitm = false  # default",
        "enable_socks5 = true  # default",
        'socks_url = "http://127.0.0.1:8081"  # default',
        "enable_socks5_udp = true  # default",
        "allow_upstream_proxy = true  # default",
        "dangerously_allow_non_loopback_proxy = false  # default",
        "dangerously_allow_all_unix_sockets = false  # default",
        "allowed_domains = [",
        '    "a.test",  # c.toml:5',
        '    "b.test",  # c.toml:6',
        "]",
        "denied_domains = []",
        "allow_unix_sockets = []",
        "[[permissions.w.network.mitm_hooks]]  # c.toml:9",
        'host = "a.test"',
        'match = { methods = ["GET", "POST"], path_prefixes = ["/x/", "literal:/a\\"b\\\\c"], '
        'query = { "a b" = ["1", "2"] }, headers = { x-version = [] } }',
        'actions = { strip_request_headers = ["cookie"], inject_request_headers = ['
        '{ name = "authorization", secret_env_var = "TOKEN", prefix = "Bearer " }, '
        '{ name = "x-key", secret_file = "/run/key", prefix = "" }] }',
    ]


def test_what_a_parent_says_stands_there() -> None:
    text = (
        "default_permissions = 'c'\n[permissions.p.network]\nmode = 'limited'\nallowed_domains = ['a.test']\n"
        "[permissions.c]\nextends = 'p'\n[permissions.c.network]\nenabled = true\n"
    )
    lines = shown(text)
    assert 'mode = "limited"  # c.toml:3' in lines
    assert '    "a.test",  # c.toml:4' in lines
    assert "enabled = true  # c.toml:8" in lines


def test_a_file_that_selects_nothing_shows_the_defaults() -> None:
    lines = shown("[permissions.w.network]\nenabled = true\n")
    assert lines[:2] == ["[permissions.workspace.network]", "enabled = false  # default"]


def test_where_lines_cannot_be_told_there_is_no_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codex_network_proxy.policy.config_problems.line_numbers", lambda text: {})
    lines = shown(HEAD + "enabled = true\nallowed_domains = ['a.test']\n")
    assert "enabled = true" in lines
    assert '    "a.test",' in lines
