"""Runtimes of one CODEX_HOME, whose configuration the test rewrites."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from codex_network_proxy.addons.auditing import NOBODY, Watchers
from codex_network_proxy.addons.runtime import RunOptions, Runtime
from codex_network_proxy.policy.decision import NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.overlays import ManagedPolicy

HEAD = """
default_permissions = "test"
[permissions.test.network]
enabled = true
proxy_url = "http://127.0.0.1:0"
socks_url = "http://127.0.0.1:0"
allow_local_binding = true
"""
HOOK = """
mitm = true
[[permissions.test.network.mitm_hooks]]
host = "api.test"
match = { methods = ["GET"], path_prefixes = ["/x/"] }
actions = { inject_request_headers = [{ name = "authorization", secret_env_var = "TOKEN" }] }
"""


class Place:
    """A CODEX_HOME whose configuration the test rewrites."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "config.toml"
        self._opened: list[Runtime] = []

    def write(self, allowed: str, more: str = "") -> None:
        self.config.write_text(f"{HEAD}allowed_domains = [{allowed}]\n{more}")

    def open(
        self,
        options: RunOptions | None = None,
        environ: Mapping[str, str] | None = None,
        managed: ManagedPolicy | None = None,
        watchers: Watchers = NOBODY,
    ) -> Runtime:
        options = options or RunOptions(pins=("a.test=127.0.0.1", "b.test=127.0.0.1"))
        runtime = Runtime(options, self.environ(environ), managed=managed, watchers=watchers)
        self._opened.append(runtime)
        return runtime

    def environ(self, more: Mapping[str, str] | None) -> dict[str, str]:
        return {"CODEX_HOME": str(self.home), "HOME": str(self.home), **(more or {})}

    def close(self) -> None:
        for runtime in self._opened:
            runtime.close()


def ask(runtime: Runtime, host: str) -> object:
    request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, parse_endpoint(host, 443), method="CONNECT")
    return asyncio.run(runtime.authority.decide(request))
