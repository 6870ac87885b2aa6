"""A configuration that does not load: every problem at once, with its place, its value and the repair (spec A1.2)."""

from __future__ import annotations

import pytest

from .config_texts import HEAD, NETWORK, hook, injection, problems
from .rows_config_hooks import HOOKS, MATCH
from .rows_config_values import UNKNOWN_KEYS, VALUES


@pytest.mark.parametrize(("toml", "words"), [*VALUES, *UNKNOWN_KEYS, *HOOKS])
def test_a_wrong_value_is_refused_with_its_place_and_the_repair(toml: str, words: str) -> None:
    (problem,) = problems(HEAD + toml)
    assert problem.startswith("config.toml:")
    assert words in problem
    assert "; " in problem


SECRETS = [
    pytest.param(injection("name = 'a'", "secret_file = 'sk-1234'"), id="instead of a file"),
    pytest.param(injection("name = 'a'", "secret_file = 'eyJhbGciOi.sk-1234.x-y_z'"), id="a token with dots"),
    pytest.param(injection("name = 'a'", "secret_env_var = 'TOKEN=sk-1234'"), id="with the name of its variable"),
    pytest.param(injection("name = 'a'", "secret_env_var = ['sk-1234']"), id="in a list"),
    pytest.param(injection("name = 'a'", "secret = 'sk-1234'"), id="under a key that is not there"),
    pytest.param(injection("name = 'a'", "secret_env_var = 'A'", "prefix = 'sk-1234é'"), id="in the prefix"),
    pytest.param(hook("actions.inject_request_headers = ['sk-1234']"), id="instead of a table"),
    pytest.param(hook("match.headers = { authorization = 'sk-1234' }"), id="as the value of a header"),
    pytest.param(hook("match.headers = { authorization = ['pattern:sk-1234?'] }"), id="in the pattern of a header"),
    pytest.param(hook("match.query = { token = 'sk-1234' }"), id="as the value of a query key"),
    pytest.param(hook("match.body = 'sk-1234'"), id="in the body"),
    pytest.param("allowed_domains = ['https://user:sk-1234@a.com/']", id="in the user-info of a URL"),
    pytest.param("domains = { 'https://user:sk-1234@a.com/' = 'allow' }", id="in the user-info of a key"),
    pytest.param("allowed_domains = ['sk-1234@a.com/x']", id="in the user-info of a host with a path"),
    pytest.param("denied_domains = ['https://user:sk-1234/x@a.com/']", id="in user-info with a slash"),
    pytest.param("proxy_url = 'http://user:sk-1234@'", id="in the user-info of an address"),
    pytest.param("token = 'sk-1234'", id="under a key of the network table that is not there"),
    pytest.param("enabled = 'sk-1234", id="in a line that is not TOML"),
]


@pytest.mark.parametrize("toml", SECRETS)
def test_a_secret_in_the_wrong_place_is_not_echoed(toml: str) -> None:
    assert "sk-1234" not in "\n".join(problems(HEAD + toml))


MANY = """\
default_permissions = "w"
[permissions.base.network]
allowed_domains = [
  "good.com",

  "https://bad.com",
]
[permissions.base.network.mitm.actions.idle]
[permissions.base.network.domains]
"a  b" = "deny"
[permissions.w]
extends = "base"
[permissions.w.network]
modes = "full"
enabled = 1
[permissions.w.network.domains]
"ok.com" = "allow"
"a b" = "maybe"
[[permissions.w.network.mitm_hooks]]
host = "ok.com"
[permissions.w.network.mitm_hooks.match]
methods = [
  "GET",
  "",
]
"""


def test_all_problems_are_reported_at_once_in_the_order_of_the_file() -> None:
    places = [problem.split(": ")[0] for problem in problems(MANY)]
    assert places == [
        "config.toml:6 permissions.base.network.allowed_domains[1]",
        "config.toml:8 permissions.base.network.mitm.actions.idle",
        'config.toml:10 permissions.base.network.domains."a  b"',
        f"config.toml:14 {NETWORK}.modes",
        f"config.toml:15 {NETWORK}.enabled",
        f'config.toml:18 {NETWORK}.domains."a b"',
        f'config.toml:18 {NETWORK}.domains."a b"',
        f"config.toml:21 {NETWORK}.{MATCH}.path_prefixes",
        f"config.toml:24 {NETWORK}.{MATCH}.methods[1]",
    ]


@pytest.mark.parametrize(
    "sources",
    [
        pytest.param((), id="no secret at all"),
        pytest.param(("secret_env_var = 'A'", "secret_file = 'here/token'"), id="two of them"),
    ],
)
def test_a_wrong_number_of_secrets_does_not_hide_what_else_is_wrong(sources: tuple[str, ...]) -> None:
    told = [problem.split(": ", 1)[1] for problem in problems(HEAD + injection("name = 'x y'", "prefx = ''", *sources))]
    assert len(told) == 3 + len(sources) // 2
    for words in ('invalid header name "x y"', "did you mean `prefix`", "expected exactly one of secret_env_var or"):
        assert any(words in each for each in told), words
    assert any("must be an absolute path" in each for each in told) == bool(sources)


SELECTION = [
    pytest.param(
        'default_permissions = "w"',
        "config.toml:1 default_permissions: default_permissions requires a "
        "`[permissions]` table for network settings; write [permissions.w.network]",
        id="no profiles at all",
    ),
    pytest.param(
        '\ndefault_permissions = "wrk"\n[permissions.work]\n[permissions.home]',
        "config.toml:2 "
        "default_permissions: default_permissions refers to undefined profile `wrk`; did you mean `work`?",
        id="a profile with a typo",
    ),
    pytest.param(
        'default_permissions = "x"\n[permissions.work]\n[permissions.home]',
        "undefined profile `x`; the profiles here are `work`, `home`",
        id="a profile like no other",
    ),
    pytest.param(
        'default_permissions = "x"\n[permissions]',
        "undefined profile `x`; there are no profiles here",
        id="an empty table of profiles",
    ),
    pytest.param(
        "default_permissions = 5",
        "config.toml:1 default_permissions: 5 must be a string; write the name of a profile in quotes",
        id="a number as selection",
    ),
    pytest.param(
        'default_permissions = "w"\npermissions = 5',
        "config.toml:2 permissions: 5 must be a table",
        id="profiles that are no table",
    ),
    pytest.param(
        'default_permissions = "w"\npermissions.w = []',
        "config.toml:2 permissions.w: [\u2026] must be a table; write [permissions.w]",
        id="a profile that is no table",
    ),
    pytest.param(
        'default_permissions = "w"\npermissions.w.network = true',
        f"config.toml:2 {NETWORK}: true must be a table; write [permissions.w.network]",
        id="a network table that is none",
    ),
    pytest.param(
        'default_permissions = "child"\n[permissions.child]\nextends = "base"',
        "config.toml:3 "
        "permissions.child.extends: permissions profile `child` extends undefined profile `base`; "
        "the profiles here are `child`",
        id="an undefined parent",
    ),
    pytest.param(
        'default_permissions = "child"\n[permissions.child]\nextends = ":danger-full-access"',
        "permissions profile `child` cannot extend unsupported built-in profile `:danger-full-access`; "
        "the built-in profiles here are `:read-only`, `:workspace`",
        id="an unsupported built-in parent",
    ),
    pytest.param(
        'default_permissions = "child"\n[permissions.child]\nextends = ["base"]',
        "config.toml:3 permissions.child.extends: [\u2026] must be a string",
        id="a list of parents",
    ),
    pytest.param(
        'default_permissions = "alpha"\n[permissions.alpha]\nextends = "beta"\n[permissions.beta]\nextends = "alpha"',
        "config.toml:5 permissions.beta.extends: permissions profile inheritance cycle "
        "detected: alpha -> beta -> alpha",
        id="a cycle",
    ),
    pytest.param(
        'default_permissions = "a"\n[permissions]\na.extends = "b"\nb.extends = "b"',
        "config.toml:4 permissions.b.extends: permissions profile inheritance cycle detected: b -> b",
        id="a parent that extends itself",
    ),
    pytest.param(
        'default_permissions = "a\\n\\u001b[0m"\n[permissions.b]',
        r"undefined profile `a\n\x1b[0m`",
        id="a name that a terminal would act on",
    ),
]


@pytest.mark.parametrize(("text", "words"), SELECTION)
def test_a_selection_that_selects_nothing_is_refused(text: str, words: str) -> None:
    (problem,) = problems(text)
    assert words in problem
    assert "; " in problem


OVERRIDES = [
    pytest.param("", "--profile: --profile requires a `[permissions]` table", id="no profiles at all"),
    pytest.param(
        "[permissions.work]",
        "--profile: --profile refers to undefined profile `wrk`; did you mean `work`?",
        id="an undefined profile",
    ),
]


@pytest.mark.parametrize(("text", "words"), OVERRIDES)
def test_an_override_that_selects_nothing_is_refused(text: str, words: str) -> None:
    assert problems(text, profile="wrk")[0].startswith(words)
