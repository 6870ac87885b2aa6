"""The configuration of a proxy that serves one command: the file's, and what the command line says beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from codex_network_proxy.policy.config import LoadedConfig
from codex_network_proxy.policy.listeners import LOOPBACK, ListenAddress
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.origins import Origins
from codex_network_proxy.policy.patterns import DomainPattern
from codex_network_proxy.policy.settings import NetworkSettings

from .config_file import ConfigSource
from .given_config import Configuration

ANY_PORT = ListenAddress(LOOPBACK, 0)


@dataclass(slots=True)
class CommandConfig:
    """What the file says at first holds to the end: the command may be able to write it, and is not to move its fence.

    The listeners are on free ports of this machine. Entries of `allow` are added; what is denied stays denied.

    `limited` narrows the mode, and reads HTTPS so that reading passes. With `own_network` the command sees nothing of
    this machine's network, so that datagrams of SOCKS5 could not be brought to it.
    """

    inner: Configuration
    allow: tuple[DomainPattern, ...] = ()
    limited: bool = False
    own_network: bool = False
    _first: LoadedConfig | None = field(default=None, init=False, repr=False)

    @property
    def source(self) -> ConfigSource:
        return self.inner.source

    def load(self) -> LoadedConfig:
        """Raises `ConfigError`."""
        if self._first is None:
            loaded = self.inner.load()
            self._first = replace(loaded, settings=self._laid_over(loaded.settings))
        return self._first

    def changed(self) -> bool:
        return False

    def origins(self) -> Origins:
        return self.inner.origins()

    def _laid_over(self, settings: NetworkSettings) -> NetworkSettings:
        return replace(
            settings,
            http_listen=ANY_PORT,
            socks_listen=ANY_PORT,
            allow_non_loopback=False,
            enable_socks5_udp=settings.enable_socks5_udp and not self.own_network,
            allowed=tuple(dict.fromkeys((*settings.allowed, *self.allow))),
            mode=NetworkMode.LIMITED if self.limited else settings.mode,
            mitm=settings.mitm or self.limited,
        )
