"""Values and keys that a configuration may not have: TOML, and the words of the refusal."""

from __future__ import annotations

import pytest

from .config_texts import hook, injection

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
