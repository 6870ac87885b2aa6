"""Hooks in both forms, and when interception is on (spec A1, B1.3, B7.1)."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.hosts import Host
from codex_network_proxy.policy.settings import HookSettings, InjectSettings, Place

from .config_texts import FILE, README_SAMPLE, load

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
