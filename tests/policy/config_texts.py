"""Pieces of configuration files, and what loading them gives."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from codex_network_proxy.policy.config import LoadedConfig, load_config
from codex_network_proxy.policy.errors import ConfigError

FILE = "config.toml"
HEAD = 'default_permissions = "w"\n[permissions.w.network]\n'
NETWORK = "permissions.w.network"


def problems(text: str, profile: str | None = None) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_config(text, file=FILE, profile=profile)
    return [str(problem) for problem in refused.value.problems]


def hook(*keys: str) -> str:
    """A hook that is right but for what `keys` add or replace; line 3 and the following ones."""
    defaults = {"host": "'a.com'", "match.methods": "['GET']", "match.path_prefixes": "['/']"}
    given = dict(key.split(" = ", 1) for key in keys)
    lines = [f"{key} = {value}" for key, value in (defaults | given).items() if value]
    return f"[[{NETWORK}.mitm_hooks]]\n" + "\n".join(lines)


def injection(*keys: str) -> str:
    return hook("actions.inject_request_headers = [{ " + ", ".join(keys) + " }]")


def load(network: str) -> LoadedConfig:
    """Loads keys of the network table of a profile `w`, which are the third line and the following ones."""
    return load_config(HEAD + network, file=FILE)


def texts(patterns: Iterable[object]) -> list[str]:
    return [str(pattern) for pattern in patterns]


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
