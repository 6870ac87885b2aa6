"""Proxies for tests with pytest: each listens on free ports, obeys a policy from a dict, and is gone with its test.

Write `pytest_plugins = ["codex_network_proxy.testing"]` in a top-level `conftest.py`, or import `network_proxy` there:

    def test_only_the_api_is_contacted(network_proxy):
        proxy = network_proxy({"allowed_domains": ["api.example.com"]})
        subprocess.run(["my-program"], env=proxy.child_env())
        assert proxy.blocked() == []
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from .addons.network_proxy import NetworkProxy
from .addons.proxy_builder import NetworkProxyBuilder, PolicyDecider

__all__ = ["NetworkProxyFactory", "ProxyUnderTest", "network_proxy"]

DEFAULTS: Mapping[str, object] = {
    "enabled": True,
    "proxy_url": "http://127.0.0.1:0",
    "socks_url": "http://127.0.0.1:0",
    # What the machine of the test happens to be behind is none of the test's business.
    "allow_upstream_proxy": False,
}
"""What a test's network table says unless the test says otherwise."""


class ProxyUnderTest(NetworkProxy):
    """A running proxy, and what tests ask of it."""

    @property
    def url(self) -> str:
        """The proxy's address as HTTP clients want it, `http://127.0.0.1:49152`."""
        return f"http://{self.http_address}"

    def blocked(self) -> list[str]:
        """Every target that was refused so far, `host:port`, in order; the last 200 of them.

        `blocked_snapshot` says why.
        """
        return [f"{entry.host}:{entry.port}" for entry in self.blocked_snapshot()]


class NetworkProxyFactory(Protocol):
    """What the fixture `network_proxy` is: call it, and it gives a running proxy."""

    def __call__(
        self,
        network: Mapping[str, object] | None = None,
        *,
        resolve: Mapping[str, str] | None = None,
        decider: PolicyDecider | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> ProxyUnderTest:
        """Starts a proxy that ends with the test.

        `network` is the network table as a dict; without it nothing is allowed. `resolve` pins names to addresses, for
        servers of the test: the policy has to allow these, by `allow_local_binding` or by an entry such as
        `127.0.0.1`. `decider` is asked about what is not listed, in a thread of its own. `environ` holds the secrets of
        hooks; the environment of the process by default. Raises `ConfigError`.
        """
        ...


@pytest.fixture
def network_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkProxyFactory]:
    """Makes running proxies; each has a certificate authority and an audit log of its own."""
    running: list[ProxyUnderTest] = []

    def start(
        network: Mapping[str, object] | None = None,
        *,
        resolve: Mapping[str, str] | None = None,
        decider: PolicyDecider | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> ProxyUnderTest:
        made = _builder(tmp_path_factory.mktemp("network-proxy"), {**DEFAULTS, **(network or {})})
        made.environ(os.environ if environ is None else environ)
        for name, address in (resolve or {}).items():
            made.resolve(name, address)
        if decider is not None:
            made.policy_decider(decider)
        proxy = ProxyUnderTest(made.start_sync()._life)
        running.append(proxy)
        return proxy

    yield start
    for proxy in running:
        proxy.shutdown_sync()


def _builder(home: Path, network: Mapping[str, object]) -> NetworkProxyBuilder:
    return NetworkProxy.builder().config(network).home(home)
