"""A configuration that the embedding program holds and changes itself, where others have a file (spec A10, B9.3)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from codex_network_proxy.policy.config import LoadedConfig, load_table
from codex_network_proxy.policy.origins import NO_ORIGINS, Origins
from codex_network_proxy.policy.settings import NetworkSettings

from .config_file import ConfigSource

GIVEN = "configuration given in code"
"""The name of such a configuration in the log."""

Given = Mapping[str, object] | NetworkSettings


class NetworkProxyState:
    """What the policy is to be, now and later: `replace` it, and every proxy that was given it follows within seconds.

    Takes the network table as a dict with the keys and defaults of the file, or checked settings. May be used from any
    thread, and by several proxies. Raises `ConfigError` with everything that is wrong.
    """

    def __init__(self, network: Given) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._loaded = checked(network)

    def replace(self, network: Given) -> None:
        """Takes the place of what was said before. Raises `ConfigError`; then that stays in force.

        Proxies notice it as they notice a changed file; `NetworkProxy.reload` makes one of them do so at once.
        """
        loaded = checked(network)
        with self._lock:
            self._loaded, self._version = loaded, self._version + 1

    def current(self) -> tuple[int, LoadedConfig]:
        """The configuration, and a number that is another one after each change."""
        with self._lock:
            return self._version, self._loaded


class StateConfig:
    """One proxy's look at a state; see `given_config.Configuration`."""

    def __init__(self, state: NetworkProxyState, home: Path) -> None:
        self._state = state
        self._seen: int | None = None
        self.source = ConfigSource(Path(GIVEN), home)

    def load(self) -> LoadedConfig:
        self._seen, loaded = self._state.current()
        return loaded

    def changed(self) -> bool:
        return self._state.current()[0] != self._seen

    def origins(self) -> Origins:
        return NO_ORIGINS


def checked(network: Given) -> LoadedConfig:
    """Raises `ConfigError` with every problem."""
    return LoadedConfig(network) if isinstance(network, NetworkSettings) else load_table(network)
