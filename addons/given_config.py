"""Where a configuration comes from, and what code says of it instead of the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from codex_network_proxy.policy.config import LoadedConfig
from codex_network_proxy.policy.listeners import ListenAddress, read_listen_address
from codex_network_proxy.policy.origins import Origins

from .config_file import ConfigSource


class Configuration(Protocol):
    """One configuration over time; `ConfigWatch` is the one from a file."""

    @property
    def source(self) -> ConfigSource: ...

    def load(self) -> LoadedConfig:
        """Raises `ConfigError`."""
        ...

    def changed(self) -> bool:
        """Whether it is another one than at the last `load`."""
        ...

    def origins(self) -> Origins:
        """Where each part of it stands, as far as that can be said now. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class MovedListeners:
    """A configuration whose listeners stand where code wants them (spec B9.1). They are clamped all the same."""

    inner: Configuration
    http: ListenAddress | None = None
    socks: ListenAddress | None = None

    @property
    def source(self) -> ConfigSource:
        return self.inner.source

    def load(self) -> LoadedConfig:
        """Raises `ConfigError`."""
        loaded = self.inner.load()
        settings = replace(
            loaded.settings,
            http_listen=self.http or loaded.settings.http_listen,
            socks_listen=self.socks or loaded.settings.socks_listen,
        )
        return replace(loaded, settings=settings)

    def changed(self) -> bool:
        return self.inner.changed()

    def origins(self) -> Origins:
        return self.inner.origins()


def exact_address(text: str) -> ListenAddress:
    """`ip:port`, port 0 for a free one. Raises `ValueError` where a file would get a default instead."""
    found = read_listen_address(text, -1)
    if found.notes:
        raise ValueError(found.notes[0])
    if found.address.port < 0:
        raise ValueError(f"{text!r} has no port; write IP:PORT, with port 0 for a free one")
    return found.address
