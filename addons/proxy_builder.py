"""What a proxy inside another program is to be like, said step by step (spec A10, B9.1)."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from codex_network_proxy.policy.audit import PolicyDecisionEvent, audit_metadata
from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.deciding import DECIDER_TIMEOUT, check_timeout
from codex_network_proxy.policy.decision import NetworkDecision, NetworkPolicyRequest
from codex_network_proxy.policy.interfaces import NetworkPolicyDecider
from codex_network_proxy.policy.listeners import ListenAddress
from codex_network_proxy.policy.overlays import ManagedPolicy

from .auditing import Watchers
from .config_file import ConfigWatch, find_config
from .contained_logs import contain_all
from .embedder import Embedder
from .given_config import Configuration, MovedListeners, exact_address
from .helper_thread import done_in_thread
from .network_proxy import NetworkProxy
from .observers import is_async
from .proxy_life import ProxyLife
from .proxy_state import Given, NetworkProxyState, StateConfig
from .resolver import parse_pin
from .runtime import RunOptions, Runtime

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

AuditObserver = Callable[[PolicyDecisionEvent], object]
BlockedObserver = Callable[[BlockedRequest], object]
PolicyDecider = Callable[[NetworkPolicyRequest], NetworkDecision | Awaitable[NetworkDecision]]


class NetworkProxyBuilder:
    """Every step may be left out; the proxy is then the one that `codex-proxy serve` would run.

    Each method returns the builder itself. Several proxies may be built from one builder.
    """

    def __init__(self) -> None:
        self._given: Given | NetworkProxyState | None = None
        self._file: Path | None = None
        self._profile: str | None = None
        self._environ: Mapping[str, str] = os.environ
        self._home: Path | None = None
        self._http: ListenAddress | None = None
        self._socks: ListenAddress | None = None
        self._decider: PolicyDecider | None = None
        self._decider_timeout = DECIDER_TIMEOUT
        self._managed: ManagedPolicy | None = None
        self._audit_log: Path | None = None
        self._fail_closed_audit = False
        self._audit_observer: AuditObserver | None = None
        self._blocked_observer: BlockedObserver | None = None
        self._metadata: Mapping[str, str | None] = {}
        self._logger_provider: LoggerProvider | None = None
        self._pins: list[str] = []

    # -- the configuration -------------------------------------------------------------------------------------------

    def config(self, network: Given) -> Self:
        """The network table as a dict with the keys and defaults of the file, or as checked settings. No file is read.

        `enabled` is false by default here as well.
        """
        self._given = network
        return self

    def state(self, state: NetworkProxyState) -> Self:
        """A configuration that the program holds and may replace while the proxy runs. No file is read."""
        self._given = state
        return self

    def config_file(self, path: str | Path, profile: str | None = None) -> Self:
        """This file instead of `$CODEX_HOME/config.toml`. It is watched, and a change is in force within two seconds.

        `profile` overrides the file's own `default_permissions`.
        """
        self._file, self._profile = Path(path), profile
        return self

    def environ(self, environ: Mapping[str, str]) -> Self:
        """Where `CODEX_HOME`, secrets of hooks, `SSL_CERT_FILE` and upstream proxies are looked up.

        By default the environment of the process.
        """
        self._environ = environ
        return self

    def home(self, path: str | Path) -> Self:
        """This directory instead of `$CODEX_HOME`: configuration, certificate authority and log lie in it."""
        self._home = Path(path)
        return self

    def managed(self, managed: ManagedPolicy) -> Self:
        """Requirements, rules and constraints that are laid over the configuration each time it is read."""
        self._managed = managed
        return self

    def resolve(self, name: str, address: str) -> Self:
        """Pins a name to an address; all checks still apply. May be repeated. Raises `ValueError`."""
        parse_pin(f"{name}={address}")
        self._pins.append(f"{name}={address}")
        return self

    # -- the listeners -----------------------------------------------------------------------------------------------

    def http_addr(self, address: str) -> Self:
        """Where the HTTP proxy listens, `ip:port`, whatever the configuration says. Port 0 takes a free one.

        It is kept on loopback unless the configuration opens it. Raises `ValueError` for anything else.
        """
        self._http = exact_address(address)
        return self

    def socks_addr(self, address: str) -> Self:
        """Where the SOCKS5 proxy listens; as `http_addr`."""
        self._socks = exact_address(address)
        return self

    # -- functions of the program ------------------------------------------------------------------------------------

    def policy_decider(self, decider: PolicyDecider) -> Self:
        """Asked about hosts that no list names. It should be async, and runs in the event loop that calls `run`.

        Only an allow opens anything, and only for hosts that are neither denied nor local. Whoever raises, is late,
        or answers with anything else has denied.
        """
        self._decider = decider
        return self

    def decider_timeout(self, seconds: float) -> Self:
        """How long a decider may take before its silence is a deny; 60 s by default. Raises `ValueError`."""
        check_timeout(seconds)
        self._decider_timeout = seconds
        return self

    def blocked_request_observer(self, observer: BlockedObserver) -> Self:
        """Told of each blocked request, in order; an async function in the event loop that calls `run`, a plain one
        in a thread of its own. It delays no answer; when it falls behind by 10,000, the log says how many it missed.
        """
        self._blocked_observer = observer
        return self

    # -- audit -------------------------------------------------------------------------------------------------------

    def audit_observer(self, observer: AuditObserver) -> Self:
        """Told of each decision, in order; else as `blocked_request_observer`."""
        self._audit_observer = observer
        return self

    def audit_metadata(self, metadata: Mapping[str, str | None]) -> Self:
        """Added to each audit event, such as `conversation.id`; unset values are left out.

        Raises `ValueError` for a name that may not be set, and for a value that is no text.
        """
        audit_metadata(metadata)
        self._metadata = dict(metadata)
        return self

    def audit_log(self, path: str | Path) -> Self:
        """The file for audit events; by default `log/network-proxy.jsonl` in `$CODEX_HOME`."""
        self._audit_log = Path(path)
        return self

    def logger_provider(self, provider: LoggerProvider) -> Self:
        """Exports audit events through this OpenTelemetry provider, not to the collector that the environment names.

        It stays the program's: it is neither flushed nor shut down.
        """
        self._logger_provider = provider
        return self

    def fail_closed_audit(self, required: bool = True) -> Self:
        """Refuses every request while the audit log cannot be written."""
        self._fail_closed_audit = required
        return self

    # -- the end of it -----------------------------------------------------------------------------------------------

    async def build(self) -> NetworkProxy:
        """A proxy that is ready to `run`. Its configuration is read, and its certificate authority made where needed.

        Raises `ConfigError` with everything that is wrong with the configuration. Binds nothing.
        """
        return await done_in_thread(self.build_sync, unwanted=lambda proxy: proxy._life.end())

    def build_sync(self) -> NetworkProxy:
        """As `build`, for code without an event loop. Reads files."""
        contain_all("codex_network_proxy")
        embedder = Embedder()
        environ = self._environ if self._home is None else {**self._environ, "CODEX_HOME": str(self._home)}
        runtime = Runtime(
            RunOptions(audit_log=self._audit_log, pins=tuple(self._pins), fail_closed_audit=self._fail_closed_audit),
            environ,
            decider=_outside(embedder, self._decider) if self._decider else None,
            decider_timeout=self._decider_timeout,
            managed=self._managed,
            watchers=Watchers(
                _observer(embedder, self._audit_observer),
                _observer(embedder, self._blocked_observer),
                self._metadata,
                self._logger_provider,
            ),
            configuration=MovedListeners(self._configuration(environ), self._http, self._socks),
        )
        return NetworkProxy(ProxyLife(runtime, embedder))

    def _configuration(self, environ: Mapping[str, str]) -> Configuration:
        source = find_config(environ, self._file, self._profile)
        if self._given is None:
            return ConfigWatch(source)
        state = self._given if isinstance(self._given, NetworkProxyState) else NetworkProxyState(self._given)
        return StateConfig(state, source.home)

    def start(self) -> StartingProxy:
        """`build` and `run` in one: `async with builder.start() as proxy`, or `proxy = await builder.start()`.

        Raises what these two raise. The `async with` shuts the proxy down at its end.
        """
        return StartingProxy(self)

    def start_sync(self) -> NetworkProxy:
        """`build_sync` and `run_sync` in one: `with builder.start_sync() as proxy`, which shuts it down at its end."""
        proxy = self.build_sync()
        proxy.run_sync()
        return proxy


def _observer[Item](embedder: Embedder, observer: Callable[[Item], object] | None) -> Callable[[Item], object] | None:
    return embedder.outside(observer) if observer and is_async(observer) else observer


def _outside(embedder: Embedder, decider: PolicyDecider) -> NetworkPolicyDecider:
    ask = embedder.outside(decider)

    async def decide(request: NetworkPolicyRequest) -> NetworkDecision:
        answer: NetworkDecision = await ask(request)
        return answer

    return decide


class StartingProxy:
    """A proxy that is about to start; see `NetworkProxyBuilder.start`."""

    def __init__(self, builder: NetworkProxyBuilder) -> None:
        self._builder = builder
        self._proxy: NetworkProxy | None = None

    async def _start(self) -> NetworkProxy:
        proxy = await self._builder.build()
        await proxy.run()
        return proxy

    def __await__(self) -> Generator[Any, Any, NetworkProxy]:
        return self._start().__await__()

    async def __aenter__(self) -> NetworkProxy:
        self._proxy = await self._start()
        return self._proxy

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._proxy is not None:
            await self._proxy.shutdown()
