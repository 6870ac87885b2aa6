"""What an embedding application lays over a configuration: requirements and rules about hosts (spec B1.5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from .constraints import Constraints, managed_patterns, take_lists, validate
from .errors import ConfigError, ConfigProblem, InvalidPattern, shown
from .listeners import LOOPBACK, ListenAddress
from .patterns import DomainPattern, parse_pattern
from .settings import NetworkSettings
from .unix_paths import normalize_socket_path

CONSTRAINTS = "network proxy constraints"
"""The name of the constraints in messages."""

_NOT_A_HOST = re.compile(r"[/?#@\\]")


@dataclass(frozen=True, slots=True)
class NetworkRequirements:
    """What a configuration must say; `None` requires nothing. The table `experimental_network` of a requirements file.

    `http_port` and `socks_port` move the listeners to that port of 127.0.0.1. With `managed_allowed_domains_only` the
    user's allowlist is ignored, and no decider may override a miss. Raises `ValueError` when it makes no sense itself.
    """

    enabled: bool | None = None
    http_port: int | None = None
    socks_port: int | None = None
    allow_upstream_proxy: bool | None = None
    dangerously_allow_non_loopback_proxy: bool | None = None
    dangerously_allow_all_unix_sockets: bool | None = None
    allowed_domains: tuple[str, ...] | None = None
    managed_allowed_domains_only: bool = False
    denied_domains: tuple[str, ...] | None = None
    allow_unix_sockets: tuple[str, ...] | None = None
    allow_local_binding: bool | None = None

    def __post_init__(self) -> None:
        take_lists(self)
        for name in ("http_port", "socks_port"):
            if (port := getattr(self, name)) is not None and not (isinstance(port, int) and 0 <= port <= 65535):
                raise ValueError(f"network requirements are invalid: {name} is {shown(port)}; use 0 to 65535")
        self.constraints(expansion=True)

    def constraints(self, *, expansion: bool) -> Constraints:
        """What follows from the requirements for the configuration that they are laid over."""
        only = self.managed_allowed_domains_only
        allowed = (self.allowed_domains or ()) if only else self.allowed_domains
        return Constraints(
            enabled=self.enabled,
            allow_upstream_proxy=self.allow_upstream_proxy,
            dangerously_allow_non_loopback_proxy=self.dangerously_allow_non_loopback_proxy,
            dangerously_allow_all_unix_sockets=self.dangerously_allow_all_unix_sockets,
            allowed_domains=allowed,
            allowlist_expansion_enabled=None if allowed is None else expansion and not only,
            denied_domains=self.denied_domains,
            denylist_expansion_enabled=None if self.denied_domains is None else True,
            allow_unix_sockets=self.allow_unix_sockets,
            allow_local_binding=self.allow_local_binding,
        )


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """What an execution policy says of one host. `prompt` says nothing.

    Raises `ValueError` unless the host is one name or address. A port is kept in an allow, and dropped in a forbid:
    that holds for every port.
    """

    host: str
    decision: Literal["allow", "forbid", "prompt"]

    def __post_init__(self) -> None:
        if self.decision not in ("allow", "forbid", "prompt"):
            raise ValueError(f"network_rule decision is {shown(self.decision)}; write allow, forbid or prompt")
        _rule_pattern(self.host, self.decision)

    @property
    def pattern(self) -> DomainPattern:
        """The host as an entry of a list."""
        return _rule_pattern(self.host, self.decision)


@dataclass(frozen=True, slots=True)
class ManagedPolicy:
    """All that the embedding application lays over each version of the configuration, in this order.

    `expansion`: the user may add to the managed allowlist, as in a sandbox that asks for approvals.
    """

    requirements: NetworkRequirements | None = None
    expansion: bool = True
    rules: tuple[NetworkRule, ...] = ()
    constraints: Constraints | None = None

    def apply(self, settings: NetworkSettings) -> NetworkSettings:
        """The settings to run. Raises `ConfigError` when they go beyond a constraint."""
        if self.requirements is not None:
            settings = apply_requirements(settings, self.requirements, expansion=self.expansion)
        settings = apply_rules(settings, self.rules)
        self.check(settings)
        return settings

    def check(self, settings: NetworkSettings, context: str = CONSTRAINTS) -> None:
        """Raises `ConfigError` with everything in which the settings go beyond a constraint."""
        found = dict.fromkeys(violation for each in self._bounds() for violation in validate(settings, each))
        if found:
            raise ConfigError(tuple(ConfigProblem(context, str(violation)) for violation in found))

    def _bounds(self) -> Iterable[Constraints]:
        if self.requirements is not None:
            yield self.requirements.constraints(expansion=self.expansion)
        if self.constraints is not None:
            yield self.constraints


UNMANAGED = ManagedPolicy()


def apply_requirements(
    settings: NetworkSettings, requirements: NetworkRequirements, *, expansion: bool
) -> NetworkSettings:
    """The settings with everything that is required.

    Managed lists come first, the user's entries after them; without `expansion` a managed allowlist stands alone.
    The user's own denials are always kept: they can only narrow.
    """
    only = requirements.managed_allowed_domains_only
    settings = replace(_switched(settings, requirements), hard_allowlist=settings.hard_allowlist or only)
    if requirements.allowed_domains is not None or only:
        managed = managed_patterns(requirements.allowed_domains or ())
        users = settings.allowed if expansion and not only else ()
        settings = replace(settings, allowed=_joined(managed, users))
    if requirements.denied_domains is not None:
        settings = replace(settings, denied=_joined(managed_patterns(requirements.denied_domains), settings.denied))
    if requirements.allow_unix_sockets is not None:
        paths = dict.fromkeys(map(normalize_socket_path, requirements.allow_unix_sockets))
        settings = replace(settings, unix_sockets=tuple(paths))
    return settings


def _switched(settings: NetworkSettings, requirements: NetworkRequirements) -> NetworkSettings:
    def chosen(required: bool | None, own: bool) -> bool:
        return own if required is None else required

    return replace(
        settings,
        enabled=chosen(requirements.enabled, settings.enabled),
        http_listen=_listen(requirements.http_port, settings.http_listen),
        socks_listen=_listen(requirements.socks_port, settings.socks_listen),
        allow_upstream_proxy=chosen(requirements.allow_upstream_proxy, settings.allow_upstream_proxy),
        allow_non_loopback=chosen(requirements.dangerously_allow_non_loopback_proxy, settings.allow_non_loopback),
        allow_all_unix_sockets=chosen(requirements.dangerously_allow_all_unix_sockets, settings.allow_all_unix_sockets),
        allow_local_binding=chosen(requirements.allow_local_binding, settings.allow_local_binding),
    )


def _listen(port: int | None, own: ListenAddress) -> ListenAddress:
    return own if port is None else ListenAddress(LOOPBACK, port)


def _joined(first: Iterable[DomainPattern], then: Iterable[DomainPattern]) -> tuple[DomainPattern, ...]:
    return tuple(dict.fromkeys((*first, *then)))


def apply_rules(settings: NetworkSettings, rules: Iterable[NetworkRule]) -> NetworkSettings:
    """The settings with each rule's host at the end of its list and out of the other one, rule by rule."""
    for rule in rules:
        match rule.decision:
            case "allow":
                settings = settings.with_allowed(rule.pattern, again=True)
            case "forbid":
                settings = settings.with_denied(rule.pattern, again=True)
            case "prompt":
                pass
            case _:
                assert_never(rule.decision)
    return settings


def _rule_pattern(text: str, decision: str) -> DomainPattern:
    host = text.strip()
    if not host:
        raise ValueError("network_rule host cannot be empty")
    if _NOT_A_HOST.search(host):
        raise ValueError("network_rule host must be a hostname or IP literal (without scheme or path)")
    if "*" in host:
        raise ValueError("network_rule host must be a specific host; wildcards are not allowed")
    if re.search(r"\s", host):
        raise ValueError("network_rule host cannot contain whitespace")
    try:
        pattern = parse_pattern(host)
    except InvalidPattern as error:
        raise ValueError(f"network_rule host {shown(host)} {error}") from None
    return pattern if decision == "allow" else pattern.on_every_port()
