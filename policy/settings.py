"""The checked configuration as frozen values: what everybody but the configuration reader gets to see."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .hosts import Host
from .listeners import (
    DEFAULT_HTTP_PORT,
    DEFAULT_SOCKS_PORT,
    LOOPBACK,
    Bind,
    ListenAddress,
    clamp,
)
from .modes import NetworkMode
from .patterns import DomainPattern

DEFAULT_HTTP_LISTEN = ListenAddress(LOOPBACK, DEFAULT_HTTP_PORT)
DEFAULT_SOCKS_LISTEN = ListenAddress(LOOPBACK, DEFAULT_SOCKS_PORT)

Constraints = tuple[tuple[str, tuple[str, ...]], ...]
"""Names (header names in lower case) and the values they may have; a name may stand twice, then both must hold."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which file a setting stands, for messages about it that come later than reading (secrets)."""

    path: str
    line: int | None = None
    file: str | None = None


NOWHERE = Place("")


@dataclass(frozen=True, slots=True)
class InjectSettings:
    """One header to inject: its name in lower case, and exactly one source of its secret, not yet read."""

    name: str
    env: str | None = None
    file: str | None = None
    prefix: str = field(default="", repr=False)
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class HookSettings:
    """One checked `mitm_hooks` entry (spec B7). `index` counts the list form first, then the table form.

    `methods` are upper case, header names lower case. Paths and values keep their `pattern:` and `literal:` marks.
    """

    index: int
    host: Host
    methods: tuple[str, ...]
    path_prefixes: tuple[str, ...]
    query: Constraints = ()
    headers: Constraints = field(default=(), repr=False)
    strip: tuple[str, ...] = ()
    inject: tuple[InjectSettings, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The network table of the selected profile (spec B1.2), checked; the defaults are those of an empty table.

    `http_listen` and `socks_listen` are the configured addresses; bind `http_bind` and `socks_bind`.
    `hard_allowlist` is set by managed requirements alone: no decider may override a miss.
    """

    enabled: bool = False
    http_listen: ListenAddress = DEFAULT_HTTP_LISTEN
    socks_listen: ListenAddress = DEFAULT_SOCKS_LISTEN
    enable_socks5: bool = True
    enable_socks5_udp: bool = True
    allow_upstream_proxy: bool = True
    allow_non_loopback: bool = False
    mode: NetworkMode = NetworkMode.FULL
    allowed: tuple[DomainPattern, ...] = ()
    denied: tuple[DomainPattern, ...] = ()
    unix_sockets: tuple[str, ...] = ()
    denied_unix_sockets: tuple[str, ...] = ()
    allow_all_unix_sockets: bool = False
    allow_local_binding: bool = False
    mitm: bool = False
    hooks: tuple[HookSettings, ...] = ()
    hard_allowlist: bool = False

    def with_allowed(self, pattern: DomainPattern, *, again: bool = False) -> NetworkSettings:
        """The pattern moved to the end of the allowlist, out of the denylist (spec B9.3).

        The same settings when it stands there and only there, unless it is to move to the end `again`.
        """
        if pattern in self.allowed and pattern not in self.denied and not again:
            return self
        return replace(self, allowed=(*_without(self.allowed, pattern), pattern), denied=_without(self.denied, pattern))

    def with_denied(self, pattern: DomainPattern, *, again: bool = False) -> NetworkSettings:
        """The pattern moved to the end of the denylist, out of the allowlist; otherwise as `with_allowed`."""
        if pattern in self.denied and pattern not in self.allowed and not again:
            return self
        return replace(self, denied=(*_without(self.denied, pattern), pattern), allowed=_without(self.allowed, pattern))

    def clamp(self, address: ListenAddress) -> Bind:
        """Where a listener asked for at `address` may bind (spec B1.7); also for addresses given in code."""
        return clamp(address, self.allow_non_loopback, bool(self.unix_sockets) or self.allow_all_unix_sockets)

    @property
    def http_bind(self) -> Bind:
        """Where the HTTP proxy may listen."""
        return self.clamp(self.http_listen)

    @property
    def socks_bind(self) -> Bind:
        """Where the SOCKS5 proxy may listen."""
        return self.clamp(self.socks_listen)

    @property
    def listen_problem(self) -> str | None:
        """Why no proxy can listen where these settings say: both listeners have one address."""
        address = self.http_bind.address
        if not self.enable_socks5 or address != self.socks_bind.address or not address.port:
            return None
        return f"{address} is both proxy_url and socks_url; write two ports"


def _without(patterns: tuple[DomainPattern, ...], pattern: DomainPattern) -> tuple[DomainPattern, ...]:
    return tuple(each for each in patterns if each != pattern)
