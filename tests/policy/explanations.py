"""One configuration to ask about, and a world in which nobody else is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

from codex_network_proxy.policy.config import load_with_origins
from codex_network_proxy.policy.decision import (
    Blocked,
    IPAddress,
    NetworkDecision,
    NetworkPolicyRequest,
    NetworkProtocol,
)
from codex_network_proxy.policy.engine import World
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.explain import Explanation, explain
from codex_network_proxy.policy.inquiry import questions
from codex_network_proxy.policy.overlays import UNMANAGED, ManagedPolicy

HEAD = """
default_permissions = "w"
[permissions.w.network]
"""
LISTS = """enabled = true
allowed_domains = ["listed.test", "*.wide.test", "private.test", "metadata.test",
  "hooked.test", "*.hooked.test"]
denied_domains = [
  "evil.wide.test", "**.evil.wide.test",
  "10.9.0.0/16"]
"""
LIMITED = LISTS + 'mode = "limited"\n'
MITM = LISTS + "mitm = true\n"
ONE_HOOK = """
[[permissions.w.network.mitm_hooks]]
host = "hooked.test"
match = { methods = ["GET"], path_prefixes = ["/repos/"], query = { state = ["open"] } }
"""
HOOK = (
    ONE_HOOK
    + """[[permissions.w.network.mitm_hooks]]
host = "hooked.test"
match = { methods = ["GET"], path_prefixes = ["/other/"] }
"""
)
NAMES = {
    "private.test": "10.0.0.1",
    "metadata.test": "169.254.169.254",
    "deniedrange.wide.test": "10.9.0.1",
    "localhost": "127.0.0.1",
    "self.wide.test": "127.0.0.1",
}


class Names:
    """Knows every name but those with `unknown` in them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        self.asked.append(name)
        if "unknown" in name:
            raise ResolutionFailed(f"could not resolve {name}")
        return (ip_address(NAMES.get(name, "93.184.216.34")),)


class Nosy:
    async def ask(self, request: NetworkPolicyRequest) -> NetworkDecision:
        raise AssertionError("an explanation asks nobody")


def a_world(names: Names | None = None) -> World:
    return World(names or Names(), lambda: "id", lambda _, port: port == 3128, Nosy())


def explained(
    text: str,
    table: str = LISTS,
    names: Names | None = None,
    managed: ManagedPolicy = UNMANAGED,
    method: str | None = None,
    protocol: NetworkProtocol | None = None,
) -> Explanation:
    loaded, origins = load_with_origins(HEAD + table, file="c.toml")
    asked = questions(text, method=method, protocol=protocol)
    return asyncio.run(explain(asked, loaded.settings, a_world(names), origins, managed))


def reason(explanation: Explanation) -> str:
    return explanation.verdict.reason if isinstance(explanation.verdict, Blocked) else "allow"
