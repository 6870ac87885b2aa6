"""A network table that code gives as a value: the same rules, messages and defaults as in a file."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.config import NetworkSettings, load_config, load_table
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.modes import NetworkMode

HOOK = {
    "host": "api.test",
    "match": {"methods": ["GET"], "path_prefixes": ["/v1/"]},
    "actions": {"inject_request_headers": [{"name": "authorization", "secret_env_var": "TOKEN"}]},
}


def test_nothing_given_is_all_defaults() -> None:
    assert load_table({}).settings == NetworkSettings()
    assert load_table({}).profile is None


def test_a_table_means_what_it_means_in_a_file() -> None:
    given = load_table({"enabled": True, "allowed_domains": ["*.a.test"], "domains": {"b.a.test": "deny"}})
    text = (
        'default_permissions = "p"\n[permissions.p.network]\nenabled = true\nallowed_domains = ["*.a.test"]\n'
        'domains = { "b.a.test" = "deny" }\n'
    )
    assert given.settings == load_config(text, file="config.toml").settings


@pytest.mark.parametrize("mode", ["limited", NetworkMode.LIMITED])
def test_a_mode_may_be_named_or_be_one(mode: object) -> None:
    assert load_table({"mode": mode}).settings.mode is NetworkMode.LIMITED


@pytest.mark.parametrize("patterns", [["a.test"], ("a.test",)])
def test_lists_may_be_tuples(patterns: object) -> None:
    assert [str(pattern) for pattern in load_table({"allowed_domains": patterns}).settings.allowed] == ["a.test"]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"mode": "ful"}, 'config network.mode: "ful" is not a mode; write "limited" or "full"'),
        ({"allowed_domians": []}, "config network.allowed_domians: unknown key; did you mean `allowed_domains`?"),
        ({"allowed_domains": "a.test"}, 'config network.allowed_domains: "a.test" must be a list; '
         "write it in square brackets"),
        ({"mitm": True, "mitm_hooks": [{**HOOK, "host": ""}]}, "config network.mitm_hooks[0].host: "
         "host must not be empty; write the one host this hook is for"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(values: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_table(values)
    assert [str(problem) for problem in caught.value.problems] == [line]


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_table({"mode": 1, "enabled": "yes", "denied_domains": ["*"]})
    assert len(caught.value.problems) == 3


def test_doubts_are_those_of_a_file() -> None:
    warnings = load_table({"enabled": True, "mitm_hooks": [HOOK]}).warnings
    assert [warning.place for warning in warnings] == [
        "network.allowed_domains",
        "network.mitm",
        "network.mitm_hooks[0].host",
    ]
