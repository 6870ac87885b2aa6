"""One running proxy: its configuration, its authority, its listeners. Shared by the command, the script and code."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_network_proxy.policy.audit import audit_metadata
from codex_network_proxy.policy.changes import needs_restart
from codex_network_proxy.policy.config import LoadedConfig
from codex_network_proxy.policy.deciding import DECIDER_TIMEOUT, check_timeout
from codex_network_proxy.policy.decision import NetworkPolicyRequest
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.explain import Explanation
from codex_network_proxy.policy.interfaces import NetworkPolicyDecider
from codex_network_proxy.policy.listeners import Bind
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.overlays import UNMANAGED, ManagedPolicy
from codex_network_proxy.policy.settings import NetworkSettings
from codex_network_proxy.policy.upstream import read_routes
from codex_network_proxy.socks.listener import address_text

from .audit_sinks import CLOSE_LIMIT, close_all
from .auditing import NOBODY, Watchers, open_audit, watch_blocks
from .authority import Authority, Surroundings
from .config_file import ConfigSource, ConfigWatch, find_config
from .explaining import explain_live
from .front_door import FrontDoor
from .given_config import Configuration
from .handover import Engine, TunnelObserver
from .live_policy import LivePolicy
from .local_sockets import SERVED_ON, LocalSockets
from .observers import finish
from .resolver import PinnedResolver, SystemResolver, parse_pins
from .secret_sources import EnvironmentSecrets
from .upstreams import Upstreams, log_routes

if TYPE_CHECKING:
    from .interception import TlsFiles

logger = logging.getLogger("codex_network_proxy")

AUDIT_LOG = Path("log", "network-proxy.jsonl")
"""Where audit events go by default, below CODEX_HOME (spec A8)."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line or the engine's options say beside the configuration file.

    `fail_closed_audit`: every request is refused while the audit log cannot be written.
    """

    config: Path | None = None
    profile: str | None = None
    audit_log: Path | None = None
    pins: tuple[str, ...] = ()
    fast_path: bool = True
    fail_closed_audit: bool = False


class SystemClock:
    def now(self) -> float:
        return time.time()


class Runtime:
    """Loads the configuration and holds everything that lasts as long as the proxy runs.

    `configuration` takes the place of the file that the options name. `managed` is laid over the file each time it is
    read; a file that goes beyond its constraints is a broken one.
    Raises `ConfigError` when the configuration is not usable, and `ValueError` for a malformed pin, a time-out that
    is none, metadata that may not be set, and for an export of a required audit that cannot be had.
    """

    door: FrontDoor | None = None
    given: tuple[socket.socket, socket.socket] | None = None
    """Sockets that listen already, for HTTP and for SOCKS5, in place of the addresses of the configuration."""
    http_address: str | None = None
    socks_address: str | None = None
    failure: Exception | None = None
    _waiting: NetworkPolicy | None = None
    _stopped = False

    def __init__(
        self,
        options: RunOptions,
        environ: Mapping[str, str] = os.environ,
        decider: NetworkPolicyDecider | None = None,
        decider_timeout: float = DECIDER_TIMEOUT,
        managed: ManagedPolicy | None = None,
        watchers: Watchers = NOBODY,
        platform: str = sys.platform,
        configuration: Configuration | None = None,
    ) -> None:
        self.options = options
        self._environ = environ
        settings = self._load(configuration, managed)
        pins, metadata = parse_pins(options.pins), audit_metadata(watchers.metadata)
        check_timeout(decider_timeout)
        self.secrets = EnvironmentSecrets(environ)
        policy = NetworkPolicy.compile(settings)
        self.tls = self._prepare_tls(policy)
        # What has threads of its own is made last: what raises before it leaves nothing behind.
        self.audit_path = options.audit_log or self.home / AUDIT_LOG
        self.audit = open_audit(self.audit_path, environ, watchers, required=options.fail_closed_audit)
        self._resolver, self._routes = SystemResolver(), read_routes(environ)
        resolver, recording, routes = PinnedResolver(pins, self._resolver), self.audit.recording, self._routes[0]
        sockets = LocalSockets() if platform == SERVED_ON else None
        outside = Surroundings(
            resolver, self.audit, SystemClock(), decider, decider_timeout, metadata, recording, routes, sockets
        )
        self.authority = Authority(policy, outside)
        self.upstreams = Upstreams(resolver, self.authority.own_listeners, lambda: self.tls.upstream_bundle)
        self._told_of_blocks = watch_blocks(self.authority, watchers)
        self.live = LivePolicy(self.authority, settings, self._managed)
        self.started = asyncio.Event()

    def _load(self, configuration: Configuration | None, managed: ManagedPolicy | None) -> NetworkSettings:
        self._watch = configuration or ConfigWatch(
            find_config(self._environ, self.options.config, self.options.profile)
        )
        self.home = self._watch.source.home
        self.loaded: LoadedConfig = self._watch.load()
        self._managed = managed or UNMANAGED
        return self._managed.apply(self.loaded.settings)

    @property
    def source(self) -> ConfigSource:
        """Where the configuration comes from."""
        return self._watch.source

    @property
    def settings(self) -> NetworkSettings:
        """The settings in force, changes made by code included."""
        return self.live.current_config

    def _prepare_tls(self, policy: NetworkPolicy) -> TlsFiles:
        # Loading cryptography takes longer than all else before the first listener; a reload finds it loaded.
        from .interception import prepare

        return prepare(self.home, policy, self.secrets, self._environ)

    def engine_directory(self) -> Path:
        """Where the engine may keep files; private, so that nothing of `~/.mitmproxy` is picked up."""
        return self.home / "proxy" / "engine"

    def warn(self) -> None:
        """Logs what is doubtful in the configuration."""
        for warning in self.loaded.warnings:
            logger.warning("%s", warning)

    def open_door(self, engine: Engine, observer: TunnelObserver | None = None) -> None:
        """Binds the listeners and remembers their addresses as bound.

        Raises `OSError` when one of them cannot be had; then none listens.
        """
        door = FrontDoor(
            self.authority, engine, observer=observer, fast_path=self.options.fast_path, upstreams=self.upstreams
        )
        try:
            if self.given is None:
                self._bind(door)
            else:
                self._take_over(door, *self.given)
        except OSError:
            door.close()
            raise
        self.door = door
        self._tell_of_limited_socks()
        if self.settings.allow_upstream_proxy:
            log_routes(*self._routes, self.authority.own_listeners)

    def _take_over(self, door: FrontDoor, http: socket.socket, socks: socket.socket) -> None:
        # They may be another network's, so that nobody here listens at their ports.
        self.http_address = address_text(door.serve(http))
        if self.settings.enable_socks5:
            self.socks_address = address_text(door.serve_socks(socks))
        else:
            socks.close()

    def _bind(self, door: FrontDoor) -> None:
        http, socks = self.settings.http_bind, self.settings.socks_bind if self.settings.enable_socks5 else None
        if problem := self.settings.listen_problem:
            raise OSError(errno.EADDRINUSE, problem)
        self.http_address = self._listen(door.start, http)
        if socks:
            self.socks_address = self._listen(door.start_socks, socks)

    def _listen(self, start: Callable[[str, int], tuple[str, int]], bind: Bind) -> str:
        address = start(str(bind.address.host), bind.address.port)
        self.authority.own_listeners.add(address[1])
        return address_text(address)

    def _tell_of_limited_socks(self) -> None:
        if self.socks_address and self.settings.mode is NetworkMode.LIMITED:
            logger.info('SOCKS5 is blocked in limited mode; set mode="full" to allow SOCKS5')

    def listeners(self) -> list[str]:
        """One line for each listener, and whom clients are to trust, for the person who started the proxy."""
        socks = [f"SOCKS5 proxy listening on {self.socks_address}"] if self.socks_address else []
        read = self.tls.interception
        trust = [f"HTTPS is intercepted where needed; clients must trust {read.child_bundle}"] if read else []
        return [f"HTTP proxy listening on {self.http_address}", *socks, *trust]

    async def explain(self, *questions: NetworkPolicyRequest) -> Explanation:
        """See `explain_live`."""
        return await explain_live(questions, self.authority, self.live, self._watch)

    def reload_if_changed(self) -> bool:
        """Puts a changed file in force. A broken one closes the proxy until it is repaired (spec A1.6)."""
        if not self._watch.changed() and not self._mended():
            return False
        self.reload()
        return True

    def _mended(self) -> bool:
        """Whether a file beside the configuration, a secret or a key, kept it from running and does so no more."""
        if self._waiting is None:
            return False
        try:
            self._prepare_tls(self._waiting)
        except Exception:
            return False
        return True

    def reload(self) -> None:
        """Reads the file again and puts it in force, or closes everything and logs each error. Never raises."""
        try:
            self._reload()
        except ConfigError as error:
            self._close_all(error.problems)
        except Exception as error:
            self._close_all([f"reload failed ({type(error).__name__})"])

    def _reload(self) -> None:
        self._waiting = None
        loaded = self._watch.load()
        settings = self._managed.apply(loaded.settings)
        policy = self._waiting = NetworkPolicy.compile(settings)
        tls = self._prepare_tls(policy)
        old = self.settings
        if needs_restart(old, settings):
            logger.warning("listener addresses changed in the configuration; they take effect after a restart")
        self._resolver.forget()
        self.loaded, self.tls, self._waiting = loaded, tls, None
        self.warn()
        self.live.put(settings, policy)
        if old.mode is not settings.mode:
            self._tell_of_limited_socks()
        logger.info("reloaded config from %s", self._watch.source.path)

    def _close_all(self, problems: Iterable[object]) -> None:
        for problem in problems:
            logger.error("%s", problem)
        logger.error("the configuration is broken; every request is refused until it is repaired")
        self.authority.replace(None)

    def stop(self) -> None:
        """Ends what lives in the event loop: the listener, its tunnels, questions to the decider. Call it there."""
        if self._stopped:
            return
        self._stopped = True
        if self.door is not None:
            self.door.close()
            self.door = None
        self.authority.close()
        self.upstreams.close()

    async def finish(self) -> None:
        """After `stop`: tells async observers of what they do not know yet, for at most a second."""
        await finish([*self.audit.sinks, *self._told_of_blocks], CLOSE_LIMIT)

    def close(self) -> None:
        """Ends everything, and writes out what the audit log still holds. May wait for a second."""
        self.stop()
        self._resolver.close()
        close_all([*self.audit.sinks, *self._told_of_blocks])
