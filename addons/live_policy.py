"""Which settings are in force? Keeps them, puts others in force at once, and says what they are (spec B9.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.changes import changes
from codex_network_proxy.policy.decision import Blocked, BlockReason, NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import InvalidHost, PolicyChangeRefused
from codex_network_proxy.policy.hooks import compile_hooks
from codex_network_proxy.policy.hosts import Endpoint, parse_host, parse_port
from codex_network_proxy.policy.live import with_allowed, with_denied, with_mode
from codex_network_proxy.policy.modes import NetworkMode, method_allowed
from codex_network_proxy.policy.overlays import UNMANAGED, ManagedPolicy
from codex_network_proxy.policy.settings import NetworkSettings

from .authority import Authority

logger = logging.getLogger("codex_network_proxy")


class LivePolicy:
    """The policy as embedding code sees and changes it, from the event loop that the proxy runs in.

    A change holds for the next request, and closes at once what it no longer allows. It lasts until the configuration
    file is read again. Changes raise `PolicyChangeRefused`: for what is no host, beyond a managed constraint, and
    while the configuration file is broken. What is read then is the last good configuration.
    """

    def __init__(self, authority: Authority, settings: NetworkSettings, managed: ManagedPolicy = UNMANAGED) -> None:
        self._authority = authority
        self._settings = settings
        self.managed = managed

    # -- what is in force --------------------------------------------------------------------------------------------

    @property
    def current_config(self) -> NetworkSettings:
        """The settings in force. They name where secrets come from and hold none."""
        return self._settings

    @property
    def current_patterns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The allowlist and the denylist, in canonical form."""
        settings = self._settings
        return tuple(map(str, settings.allowed)), tuple(map(str, settings.denied))

    @property
    def broken(self) -> bool:
        """Whether the configuration file is broken, and so every request refused."""
        return self._authority.policy is None

    @property
    def enabled(self) -> bool:
        return self._settings.enabled

    @property
    def network_mode(self) -> NetworkMode:
        return self._settings.mode

    @property
    def allow_local_binding(self) -> bool:
        return self._settings.allow_local_binding

    @property
    def allow_upstream_proxy(self) -> bool:
        return self._settings.allow_upstream_proxy

    @property
    def allow_unix_sockets(self) -> tuple[str, ...]:
        return self._settings.unix_sockets

    @property
    def dangerously_allow_all_unix_sockets(self) -> bool:
        return self._settings.allow_all_unix_sockets

    def method_allowed(self, method: str) -> bool:
        """Whether the mode lets requests with this method pass. `get` is not `GET`."""
        return method_allowed(self._settings.mode, method)

    def host_has_mitm_hooks(self, host: str) -> bool:
        """Whether requests to the host must match a hook. False for what is no host."""
        policy = self._authority.policy
        try:
            return policy is not None and policy.hooks.covers(parse_host(host))
        except InvalidHost:
            return False

    async def is_unix_socket_allowed(self, path: str) -> bool:
        """Whether a request may name this socket. False where there are none, and while the configuration is broken."""
        sockets, policy = self._authority.sockets, self._authority.policy
        return bool(sockets and policy and await sockets.find(policy.unix_sockets, path))

    async def host_blocked(self, host: str, port: int) -> str | None:
        """Why the lists or the addresses block a host, or `None`. Leaves mode and hooks aside, asks no decider.

        A name that does not resolve is not blocked. Everything is while the configuration is broken.
        """
        try:
            target = Endpoint(parse_host(host), parse_port(str(port)))
        except InvalidHost:
            return BlockReason.NOT_ALLOWED
        if (policy := self._authority.policy) is None:
            return BlockReason.POLICY_DENIED
        hosts_only = replace(policy, enabled=True, mode=NetworkMode.FULL, hooks=compile_hooks(()))
        request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, target)
        verdict = await self._authority.preview(request, hosts_only)
        return verdict.reason if isinstance(verdict, Blocked) else None

    # -- changes -----------------------------------------------------------------------------------------------------

    def add_allowed_domain(self, host: str) -> None:
        """Allows a host or pattern, and takes it out of the denylist. A wider denial still wins."""
        self._change(lambda settings: with_allowed(settings, host, self.managed))

    def add_denied_domain(self, host: str) -> None:
        """Denies a host or pattern, and takes it out of the allowlist."""
        self._change(lambda settings: with_denied(settings, host, self.managed))

    def set_network_mode(self, mode: NetworkMode) -> None:
        self._change(lambda settings: with_mode(settings, mode, self.managed))

    def _change(self, change: Callable[[NetworkSettings], NetworkSettings]) -> None:
        if self.broken:
            raise PolicyChangeRefused("the configuration is broken; repair the file first")
        changed = change(self._settings)
        if changed is not self._settings:
            self.put(changed, NetworkPolicy.compile(changed))

    def put(self, settings: NetworkSettings, policy: NetworkPolicy) -> None:
        """Puts settings in force, with the policy compiled from them, and logs what is different."""
        for line in changes(self._settings, settings):
            logger.info("%s", line)
        self._settings = settings
        self._authority.replace(policy)

    # -- blocks ------------------------------------------------------------------------------------------------------

    @property
    def blocked_total(self) -> int:
        """All blocks so far, also those that have left the buffer."""
        return self._authority.blocked.total

    def blocked_snapshot(self) -> tuple[BlockedRequest, ...]:
        """The last blocks, oldest first; they stay."""
        return self._authority.blocked.snapshot()

    def drain_blocked(self) -> tuple[BlockedRequest, ...]:
        """The last blocks, oldest first; the buffer is empty afterwards."""
        return self._authority.blocked.drain()
