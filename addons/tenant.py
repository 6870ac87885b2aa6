"""Whose connection is this? One proxy as its connections in the engine see it; an engine may serve several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from codex_network_proxy.policy.interfaces import SecretSource

    from .authority import Authority
    from .interception import TlsFiles
    from .upstreams import Upstreams


class Tenant(Protocol):
    """Policy, secrets and certificates that belong together. Nothing of one tenant counts for a client of another."""

    @property
    def authority(self) -> Authority: ...

    @property
    def secrets(self) -> SecretSource: ...

    @property
    def upstreams(self) -> Upstreams:
        """The way through upstream proxies."""
        ...

    @property
    def tls(self) -> TlsFiles:
        """As of the configuration in force; asked anew for each connection."""
        ...
