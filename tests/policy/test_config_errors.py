"""A configuration that does not load: every problem at once, with its place, its value and the repair (spec A1.2)."""

from __future__ import annotations

import pytest
import tomli
from pydantic import BaseModel, ValidationError

from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.config_tables import NetworkTable
from codex_network_proxy.policy.errors import ConfigError

HEAD = 'default_permissions = "w"\n[permissions.w.network]\n'
NETWORK = "permissions.w.network"


def problems(text: str, profile: str | None = None) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_config(text, file="config.toml", profile=profile)
    return [str(problem) for problem in refused.value.problems]


def hook(*keys: str) -> str:
    """A hook that is right but for what `keys` add or replace; line 3 and the following ones."""
    defaults = {"host": "'a.com'", "match.methods": "['GET']", "match.path_prefixes": "['/']"}
    given = dict(key.split(" = ", 1) for key in keys)
    lines = [f"{key} = {value}" for key, value in (defaults | given).items() if value]
    return f"[[{NETWORK}.mitm_hooks]]\n" + "\n".join(lines)


def injection(*keys: str) -> str:
    return hook("actions.inject_request_headers = [{ " + ", ".join(keys) + " }]")


VALUES = [
    pytest.param('enabled = "yes"', 'enabled: "yes" must be a boolean; write true or false', id="a text for a boolean"),
    pytest.param(
        "mitm = 1",
        "mitm: 1 must be true, false or a table with hooks and actions; write true or false",
        id="a number for mitm",
    ),
    pytest.param("enable_socks5 = 1", "enable_socks5: 1 must be a boolean; write true or false", id="1 is not true"),
    pytest.param("proxy_url = 3128", "proxy_url: 3128 must be a string; write it in quotes", id="a number for a text"),
    pytest.param(
        "proxy_url = ''",
        'proxy_url: missing host in network proxy address; write "http://127.0.0.1:3128"',
        id="an HTTP address without a host",
    ),
    pytest.param(
        "socks_url = ':1'",
        'socks_url: ":1" missing host in network proxy address; write "http://127.0.0.1:8081"',
        id="a SOCKS address without a host",
    ),
    pytest.param("mode = 'Full'", 'mode: "Full" is not a mode; write "limited" or "full"', id="a mode in capitals"),
    pytest.param("mode = false", 'mode: false is not a mode; write "limited" or "full"', id="a mode of a wrong type"),
    pytest.param(
        "allowed_domains = 'a.com'",
        'allowed_domains: "a.com" must be a list; write it in square brackets',
        id="a text for a list",
    ),
    pytest.param(
        "allowed_domains = { 'a.com' = true }",
        "allowed_domains: must be a list; write it in square brackets",
        id="a table for a list",
    ),
    pytest.param(
        "denied_domains = [['a.com']]", "denied_domains[0]: must be a string; write it in quotes", id="a list in a list"
    ),
    pytest.param(
        "allowed_domains = ['*']",
        'allowed_domains[0]: unsupported global wildcard domain pattern "*"; '
        "use exact hosts or scoped wildcards like *.example.com or **.example.com",
        id="the global wildcard",
    ),
    pytest.param(
        "denied_domains = ['a.com', '']",
        "denied_domains[1]: is empty; write a host such as `api.example.com`",
        id="an empty pattern",
    ),
    pytest.param("domains = ['a.com']", "domains: must be a table; write keys and values", id="a list for a table"),
    pytest.param(
        "domains = { 'a.com' = 'yes' }",
        'domains."a.com": "yes" is not a permission; write "allow" or "deny"',
        id="a permission that nobody knows",
    ),
    pytest.param(
        "domains = { 'a.com' = 'none' }",
        'domains."a.com": "none" is not a permission; write "allow" or "deny"',
        id="none was never a permission for domains",
    ),
    pytest.param(
        "unix_sockets = { '/a' = 1 }",
        'unix_sockets."/a": 1 is not a permission; write "allow" or "deny"',
        id="a permission of a wrong type",
    ),
    pytest.param(
        "allow_unix_sockets = ['relative.sock']",
        'allow_unix_sockets[0]: expected an absolute path, got "relative.sock"; write the whole path from / on',
        id="a relative socket path",
    ),
    pytest.param(
        "allow_unix_sockets = ['~/a']",
        'allow_unix_sockets[0]: expected an absolute path, got "~/a"; write the whole path from / on',
        id="a home directory is not expanded",
    ),
    pytest.param(
        "unix_sockets = { 'a' = 'deny' }",
        'unix_sockets.a: expected an absolute path, got "a"; write the whole path from / on',
        id="a relative path in the map",
    ),
    pytest.param(
        'allow_unix_sockets = ["/a\\nb"]',
        r'allow_unix_sockets[0]: "/a\nb" a socket path has no control '
        "characters; write the path as ls shows it",
        id="a line break in a path",
    ),
    pytest.param("mitm_hooks = {}", "mitm_hooks: must be a list; write it in square brackets", id="a table for hooks"),
    pytest.param("mitm_hooks = [1]", "mitm_hooks[0]: 1 must be a table; write keys and values", id="a number as hook"),
    pytest.param("mitm.hooks = []", "mitm.hooks: must be a table; write keys and values", id="a list of named hooks"),
    pytest.param(
        "mitm.hooks.a = 1", "mitm.hooks.a: 1 must be a table; write keys and values", id="a number as a named hook"
    ),
    pytest.param(
        "mitm.actions.drop = {}",
        "mitm.actions.drop: must define at least one operation; write strip_request_headers or inject_request_headers",
        id="an action without an operation",
    ),
    pytest.param(
        "mitm.hooks.a = { host = 'a.com', methods = ['GET'], path_prefixes = ['/'] }",
        "mitm.hooks.a.action: action must not be empty; write at least one",
        id="a named hook without action",
    ),
]

UNKNOWN_KEYS = [
    pytest.param(
        "denied_domain = ['a.com']",
        "denied_domain: unknown key; did you mean `denied_domains`?",
        id="a typo in the network table",
    ),
    pytest.param("zzz = 1", "zzz: unknown key; the keys here are `enabled`, `proxy_url`,", id="nothing like it"),
    pytest.param("'[key]' = 1", 'network."[key]": unknown key; the keys here', id="a key that pydantic uses itself"),
    pytest.param(hook("hots = 'a'"), "mitm_hooks[0].hots: unknown key; did you mean `host`?", id="in a hook"),
    pytest.param(
        hook("match.method = ['GET']"),
        "mitm_hooks[0].match.method: unknown key; did you mean `methods`?",
        id="in match",
    ),
    pytest.param(
        hook("actions.strip_headers = []"),
        "mitm_hooks[0].actions.strip_headers: unknown key; did you mean `strip_request_headers`?",
        id="in actions",
    ),
    pytest.param(
        injection("name = 'a'", "secret_env_var = 'A'", "preffix = 'x'"),
        "mitm_hooks[0].actions.inject_request_headers[0].preffix: unknown key; did you mean `prefix`?",
        id="in an injected header",
    ),
    pytest.param("mitm.hook.a = {}", "mitm.hook: unknown key; did you mean `hooks`?", id="in mitm"),
    pytest.param(
        "mitm.hooks.a = { host = 'x', methods = ['GET'], path_prefixes = ['/'], action = ['b'], hosts = 'x' }",
        "mitm.hooks.a.hosts: unknown key; did you mean `host`?",
        id="in a named hook",
    ),
    pytest.param(
        "mitm.actions.a = { strip = [] }",
        "mitm.actions.a.strip: unknown key; the keys here are `strip_request_headers`, `inject_request_headers`",
        id="in a named action",
    ),
    pytest.param(
        "mitm.actions.a = { inject_request_headers = [{ name = 'x', secret_env_var = 'X', nam = 'x' }] }",
        "mitm.actions.a.inject_request_headers[0].nam: unknown key; did you mean `name`?",
        id="in a header that a named action injects",
    ),
]

MATCH = "mitm_hooks[0].match"
ACTIONS = "mitm_hooks[0].actions"

HOOKS = [
    pytest.param(hook("host = ''"), "mitm_hooks[0].host: host must not be empty", id="an empty host"),
    pytest.param(hook("host = ' '"), 'mitm_hooks[0].host: " " host must not be empty', id="a blank host"),
    pytest.param(hook("host = "), "mitm_hooks[0].host: host must not be empty", id="no host"),
    pytest.param(
        hook("host = '*.a.com'"),
        'mitm_hooks[0].host: "*.a.com" MITM hook hosts must be exact hosts and cannot contain wildcards',
        id="a wildcard as host",
    ),
    pytest.param(
        hook("host = 'https://a.com/'"),
        'mitm_hooks[0].host: "https://a.com/" host has a scheme or a path; ',
        id="a URL as host",
    ),
    pytest.param(hook("host = 'a.com:443'"), 'mitm_hooks[0].host: "a.com:443" host ', id="a host with a port"),
    pytest.param(hook("host = 5"), "mitm_hooks[0].host: 5 must be a string", id="a number as host"),
    pytest.param(
        hook("match.methods = ['GET', ' ']"),
        f'{MATCH}.methods[1]: " " methods must not contain empty entries',
        id="a blank method",
    ),
    pytest.param(hook("match.methods = ['G ET']"), f'{MATCH}.methods[0]: invalid method "G ET"', id="a bad method"),
    pytest.param(hook("match.methods = []"), f"{MATCH}.methods: methods must not be empty", id="no methods in a list"),
    pytest.param(hook("match.methods = "), f"{MATCH}.methods: methods must not be empty", id="no list of methods"),
    pytest.param(
        hook("match.path_prefixes = ['']"),
        f"{MATCH}.path_prefixes[0]: path_prefixes must not contain empty entries",
        id="an empty prefix",
    ),
    pytest.param(
        hook("match.path_prefixes = ['literal:']"),
        f'{MATCH}.path_prefixes[0]: "literal:" path_prefixes must not contain empty entries',
        id="an empty literal prefix",
    ),
    pytest.param(
        hook("match.path_prefixes = ['pattern:']"),
        f'{MATCH}.path_prefixes[0]: "pattern:" invalid glob pattern',
        id="an empty pattern",
    ),
    pytest.param(
        hook("match.path_prefixes = ['pattern:/[a]']"),
        f'{MATCH}.path_prefixes[0]: "pattern:/[a]" invalid glob pattern',
        id="a pattern of another dialect",
    ),
    pytest.param(
        hook("match.path_prefixes = []"), f"{MATCH}.path_prefixes: path_prefixes must not be empty", id="no prefixes"
    ),
    pytest.param(
        hook("match.body = 'x'"),
        f"{MATCH}.body: match.body is reserved for a future release and is not yet supported",
        id="a body",
    ),
    pytest.param(
        hook("match.query = { '' = ['a'] }"), f'{MATCH}.query."": query keys must not be empty', id="an empty query key"
    ),
    pytest.param(
        hook("match.query = { state = [] }"),
        f"{MATCH}.query.state: query key must list at least one allowed value",
        id="a query key without values",
    ),
    pytest.param(
        hook("match.query = { a = ['pattern:?'] }"),
        f"{MATCH}.query.a[0]: invalid glob pattern",
        id="a bad query pattern",
    ),
    pytest.param(
        hook("match.headers = { 'x y' = [] }"),
        f'{MATCH}.headers."x y": invalid header name "x y"',
        id="a bad header name",
    ),
    pytest.param(hook("match.headers = { 'x' = 'a' }"), f"{MATCH}.headers.x: must be a list", id="a header's text"),
    pytest.param(
        hook("match.headers = { '[key]' = [] }"),
        f'{MATCH}.headers."[key]": invalid header name "[key]"',
        id="a bad header name that pydantic uses itself",
    ),
    pytest.param(
        hook("actions.strip_request_headers = ['x y']"),
        f'{ACTIONS}.strip_request_headers[0]: invalid header name "x y"',
        id="a bad header to strip",
    ),
    pytest.param(
        injection("name = 'x y'", "secret_env_var = 'A'"),
        f'{ACTIONS}.inject_request_headers[0].name: invalid header name "x y"',
        id="a bad header to inject",
    ),
    pytest.param(
        injection("secret_env_var = 'A'"),
        f'{ACTIONS}.inject_request_headers[0].name: invalid header name ""',
        id="a header without a name",
    ),
    pytest.param(
        injection("name = 'a'"),
        f"{ACTIONS}.inject_request_headers[0]: expected exactly one of secret_env_var or secret_file",
        id="no secret",
    ),
    pytest.param(
        injection("name = 'a'", "secret_env_var = 'A'", "secret_file = '/a'"),
        f"{ACTIONS}.inject_request_headers[0]: expected exactly one of secret_env_var or secret_file",
        id="two secrets",
    ),
    pytest.param(
        injection("name = 'a'", "secret_env_var = ' '"),
        f"{ACTIONS}.inject_request_headers[0].secret_env_var: secret_env_var must not be empty",
        id="a blank variable",
    ),
    pytest.param(
        injection("name = 'a'", "secret_env_var = '$TOKEN'"),
        f"{ACTIONS}.inject_request_headers[0].secret_env_var: is not the name of an environment variable",
        id="a variable with a dollar sign",
    ),
    pytest.param(
        injection("name = 'a'", "secret_file = ''"),
        f"{ACTIONS}.inject_request_headers[0].secret_file: secret_file must not be empty",
        id="a blank file",
    ),
    pytest.param(
        injection("name = 'a'", "secret_file = 'token.txt'"),
        f'{ACTIONS}.inject_request_headers[0].secret_file: secret_file must be an absolute path: "token.txt"',
        id="a relative file",
    ),
    pytest.param(
        injection("name = 'a'", "secret_file = '~/token'"),
        f'{ACTIONS}.inject_request_headers[0].secret_file: secret_file must be an absolute path: "~/token"',
        id="a file in the home directory",
    ),
    pytest.param(
        injection("name = 'a'", 'secret_file = "/a\\u0000"'),
        f"{ACTIONS}.inject_request_headers[0].secret_file: secret_file has no control characters",
        id="a NUL in the file's name",
    ),
    pytest.param(
        injection("name = 'a'", "secret_env_var = 'A'", 'prefix = "Bearer\\r\\n"'),
        f"{ACTIONS}.inject_request_headers[0].prefix: invalid value for an injected header",
        id="a prefix that would add a header",
    ),
]


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


BROKEN = [
    pytest.param("a = 1\nb = [1,, 2]", "config.toml:2 column 8: is not TOML: ", id="a syntax error"),
    pytest.param("a = 1\na = 2\n", "config.toml:2 ", id="a key twice"),
    pytest.param("[a]\n[a]\n", "config.toml:2 column 3: is not TOML: ", id="a table twice"),
    pytest.param("a = [\n", "config.toml:2 ", id="the end in a list"),
    pytest.param("a = " + "[" * 5000, "config.toml TOML: is not TOML: ", id="lists without end"),
    pytest.param("a = " + "9" * 5000, "config.toml TOML: is not TOML: ", id="a number without end"),
    pytest.param('a = "\x00"', "config.toml:1 column 6: is not TOML: Illegal character", id="a control character"),
]


@pytest.mark.parametrize(("text", "words"), BROKEN)
def test_broken_toml_is_refused_with_line_and_column(text: str, words: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(words)
    assert problem.isprintable()
    assert "; correct the line" in problem or "; write it shorter" in problem


PARSER_TEXTS = [
    pytest.param(
        "Expected '=' (at line 3, column 4)",
        "config.toml:3 column 4: is not TOML: Expected '='; ",
        id="a place in the text",
    ),
    pytest.param(
        "Expected '=' (at end of document)",
        "config.toml:2 end of file: is not TOML: Expected '='; ",
        id="the end of the file",
    ),
]


@pytest.mark.parametrize(("text", "words"), PARSER_TEXTS)
def test_the_place_is_read_from_the_parsers_text(text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise ValueError(text)

    monkeypatch.setattr(tomli, "loads", refuse)
    assert problems("a = 1\nb")[0].startswith(words)


def test_a_refusal_that_nobody_foresaw_is_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange(BaseModel):
        enabled: int

    def refuse(values: dict[str, object]) -> None:
        Strange.model_validate(values)

    monkeypatch.setattr(NetworkTable, "model_validate", refuse)
    with pytest.raises(ValidationError):
        NetworkTable.model_validate({"enabled": "x"})
    assert problems(HEAD + "enabled = 'x'") == [
        f'config.toml:3 {NETWORK}.enabled: "x" is not valid; look the key up in the README'
    ]
