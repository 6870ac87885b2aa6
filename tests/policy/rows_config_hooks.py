"""Hooks that a configuration may not have: TOML, and the words of the refusal."""

from __future__ import annotations

import pytest

from .config_texts import hook, injection

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
