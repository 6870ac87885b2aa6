"""A proxy inside a program of somebody else: run it, ask it, change it, and end it (spec A10, B9)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.child_env import ChildRoute, child_env
from codex_network_proxy.policy.decision import ClientScope, NetworkProtocol
from codex_network_proxy.policy.explain import Explanation
from codex_network_proxy.policy.inquiry import questions
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.settings import NetworkSettings

from .proxy_handle import NetworkProxyHandle, outcome
from .proxy_life import ProxyLife
from .proxy_scope import ProxyScope
from .scope_listeners import ScopeListeners

if TYPE_CHECKING:
    from .live_policy import LivePolicy
    from .proxy_builder import NetworkProxyBuilder


class NetworkProxy:
    """One proxy with a policy, listeners and a log of its own. Several may run in one process.

    Made by `NetworkProxy.builder()`. All proxies run in one background thread; the functions that were given to the
    builder run in the event loop that called `run`. Methods may be called from any thread; those that are not async
    wait for the proxy's thread, which takes far less than a millisecond.
    """

    def __init__(self, life: ProxyLife) -> None:
        self._life = life

    @staticmethod
    def builder() -> NetworkProxyBuilder:
        """Where every proxy begins."""
        from .proxy_builder import NetworkProxyBuilder

        return NetworkProxyBuilder()

    # -- from the start to the end -----------------------------------------------------------------------------------

    async def run(self) -> NetworkProxyHandle:
        """Opens the listeners. With `enabled = false` nothing is opened, and the handle's `wait` returns at once.

        Raises `OSError` when an address cannot be had; nothing is left open then, and another proxy has to be built.
        Raises `RuntimeError` when called a second time.
        """
        started = self._life.start(asyncio.get_running_loop())
        try:
            await outcome(started)
        except BaseException:
            await self.shutdown()
            raise
        return self.handle

    def run_sync(self) -> NetworkProxyHandle:
        """As `run`, for code without an event loop. Functions given to the builder run in a thread of their own."""
        started = self._life.start(None)
        try:
            started.result()
        except BaseException:
            self.shutdown_sync()
            raise
        return self.handle

    @property
    def handle(self) -> NetworkProxyHandle:
        """What `run` has given."""
        return NetworkProxyHandle(self._life)

    async def shutdown(self) -> None:
        """As `NetworkProxyHandle.shutdown`."""
        await self.handle.shutdown()

    def shutdown_sync(self) -> None:
        """As `NetworkProxyHandle.shutdown_sync`."""
        self.handle.shutdown_sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.shutdown_sync()

    # -- where it is -------------------------------------------------------------------------------------------------

    @property
    def http_address(self) -> str:
        """Where the HTTP proxy listens, `ip:port`; before `run` what was asked for, after it the address as bound."""
        return self._life.runtime.http_address or str(self._life.runtime.settings.http_bind.address)

    @property
    def socks_address(self) -> str | None:
        """Where the SOCKS5 proxy listens, as `http_address`; `None` when it is off."""
        settings = self._life.runtime.settings
        return self._life.runtime.socks_address or (
            str(settings.socks_bind.address) if settings.enable_socks5 else None
        )

    def child_env(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """`base` with the variables that lead common programs to this proxy, for `subprocess` (spec B9.4).

        They say where the proxy is, which certificates to trust while HTTPS is intercepted, and take the place of
        what `base` says of that. Variables with secrets that hooks inject are left out.
        """
        return child_env(base, self._route())

    def scope(
        self,
        *,
        command: str | None = None,
        exec_policy_hint: str | None = None,
        environment_id: str | None = None,
        execution_id: str | None = None,
        base: Mapping[str, str] = os.environ,
    ) -> ProxyScope:
        """A way in for one command: `async with proxy.scope(command="curl example.com") as env`, or plain `with`.

        `env` is `child_env(base)`, and leads to listeners of their own. Requests that arrive there carry these words
        in the decider's `NetworkPolicyRequest` and `execution_id` in the audit. At the end the listeners and what came
        through them are closed. Raises `ValueError` for words that are no text. Entering raises `RuntimeError` when the
        proxy does not run, and `OSError` when there is no free port.
        """

        def environment(opened: ScopeListeners) -> dict[str, str]:
            return child_env(base, replace(self._route(), http=opened.http, socks=opened.socks))

        return ProxyScope(self._life, ClientScope(command, exec_policy_hint, environment_id, execution_id), environment)

    def _route(self) -> ChildRoute:
        runtime = self._life.runtime
        interception = runtime.tls.interception
        bundle = str(interception.child_bundle) if interception else None
        return ChildRoute.of(runtime.settings, self.http_address, self.socks_address, bundle)

    # -- its policy --------------------------------------------------------------------------------------------------

    @property
    def _live(self) -> LivePolicy:
        return self._life.runtime.live

    @property
    def current_config(self) -> NetworkSettings:
        """The settings in force. They name where secrets come from and hold none."""
        return self._live.current_config

    @property
    def network_mode(self) -> NetworkMode:
        """The mode in force."""
        return self._live.network_mode

    def add_allowed_domain(self, pattern: str) -> None:
        """Allows a host or pattern from the next request on, and takes it out of the denylist.

        A wider denial still wins. It lasts until the configuration is read again. Raises `PolicyChangeRefused` for
        what is no pattern, goes beyond a managed constraint, or while the configuration file is broken.
        """
        self._life.call(lambda: self._live.add_allowed_domain(pattern))

    def add_denied_domain(self, pattern: str) -> None:
        """Denies a host or pattern at once, takes it out of the allowlist, and cuts its connections; else as above."""
        self._life.call(lambda: self._live.add_denied_domain(pattern))

    def set_network_mode(self, mode: NetworkMode | str) -> None:
        """Puts another mode in force at once: `full` or `limited`. Raises `PolicyChangeRefused` and `ValueError`."""
        wanted = NetworkMode(mode)
        self._life.call(lambda: self._live.set_network_mode(wanted))

    @property
    def current_patterns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The allowlist and the denylist in force, in canonical form."""
        return self._live.current_patterns

    async def explain(
        self,
        target: str,
        *,
        method: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        protocol: NetworkProtocol | None = None,
    ) -> Explanation:
        """Why a request for `URL` or `HOST[:PORT]` would pass or be blocked, and what would change that.

        Decided as live requests are, without a decider and without a trace in the audit log. Looks the host up, also
        one that the proxy would refuse. Raises `InvalidHost`, a `ValueError`, for what is no request,
        `ConfigError` while the configuration file is broken, and `RuntimeError` when the proxy does not run.
        """
        return await outcome(self._explain(target, method, headers, protocol))

    def explain_sync(
        self,
        target: str,
        *,
        method: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        protocol: NetworkProtocol | None = None,
    ) -> Explanation:
        """As `explain`, for code without an event loop."""
        return self._explain(target, method, headers, protocol).result()

    def _explain(
        self, target: str, method: str | None, headers: Sequence[tuple[str, str]], protocol: NetworkProtocol | None
    ) -> Future[Explanation]:
        asked = questions(target, method=method, headers=headers, protocol=protocol)
        return self._life.submit(lambda: self._life.runtime.explain(*asked))

    async def host_blocked(self, host: str, port: int) -> str | None:
        """Why the lists or the addresses block a host, or `None`; leaves mode, hooks and the decider aside.

        Raises `RuntimeError` when the proxy does not run.
        """
        return await outcome(self._life.submit(lambda: self._live.host_blocked(host, port)))

    def host_has_mitm_hooks(self, host: str) -> bool:
        """Whether HTTPS requests to the host must match a hook."""
        return self._live.host_has_mitm_hooks(host)

    async def is_unix_socket_allowed(self, path: str) -> bool:
        """Whether a request may go to the unix socket at this absolute path.

        Raises `RuntimeError` when the proxy does not run.
        """
        return await outcome(self._life.submit(lambda: self._live.is_unix_socket_allowed(path)))

    def method_allowed(self, method: str) -> bool:
        """Whether the mode in force lets requests with this method pass."""
        return self._live.method_allowed(method)

    async def reload(self) -> None:
        """Reads the configuration again, which undoes changes made by code, and puts it in force at once.

        What is wrong with it is logged, and closes the proxy until it is repaired. Raises `RuntimeError` when the
        proxy does not run.
        """
        await outcome(self._life.submit(self._reload))

    def reload_sync(self) -> None:
        """As `reload`, for code without an event loop."""
        self._life.submit(self._reload).result()

    async def _reload(self) -> None:
        self._life.runtime.reload()

    def blocked_snapshot(self) -> tuple[BlockedRequest, ...]:
        """The last 200 blocked requests, oldest first; they stay. Also after the end of the proxy."""
        return self._life.call(self._live.blocked_snapshot)

    @property
    def blocked_total(self) -> int:
        """How many requests were blocked so far, also those that have left the buffer."""
        return self._live.blocked_total

    def drain_blocked(self) -> tuple[BlockedRequest, ...]:
        """The last 200 blocked requests, oldest first, and forgets them."""
        return self._life.call(self._live.drain_blocked)
