"""Changes of the policy while it runs, made by code: one entry or the mode (spec B9.3)."""

from __future__ import annotations

from dataclasses import replace

from .config_values import Wrong, pattern_of
from .errors import ConfigError, PolicyChangeRefused, shown
from .modes import NetworkMode
from .overlays import UNMANAGED, ManagedPolicy
from .patterns import DomainPattern
from .settings import NetworkSettings

_CONSTRAINED = "constrained by managed config"
_SCOPED = "exact hosts or scoped wildcards like *.example.com or **.example.com"


def with_allowed(settings: NetworkSettings, host: str, managed: ManagedPolicy = UNMANAGED) -> NetworkSettings:
    """The settings with `host`, a pattern as in the configuration, in the allowlist and not in the denylist.

    The very same settings when it is so already. Raises `PolicyChangeRefused`.
    """
    pattern = _pattern(host, "network.allowed_domains")
    return _checked(settings, settings.with_allowed(pattern), managed, "network.allowed_domains")


def with_denied(settings: NetworkSettings, host: str, managed: ManagedPolicy = UNMANAGED) -> NetworkSettings:
    """The settings with `host` in the denylist and not in the allowlist; otherwise as `with_allowed`."""
    pattern = _pattern(host, "network.denied_domains")
    return _checked(settings, settings.with_denied(pattern), managed, "network.denied_domains")


def with_mode(settings: NetworkSettings, mode: NetworkMode, managed: ManagedPolicy = UNMANAGED) -> NetworkSettings:
    """The settings with another mode. Raises `PolicyChangeRefused`."""
    changed = settings if mode is settings.mode else replace(settings, mode=mode)
    return _checked(settings, changed, managed, "network.mode")


def _checked(before: NetworkSettings, after: NetworkSettings, managed: ManagedPolicy, field: str) -> NetworkSettings:
    if after is before:
        return before
    try:
        managed.check(after)
    except ConfigError as error:
        found = "; ".join(problem.message for problem in error.problems)
        raise PolicyChangeRefused(f"{field} {_CONSTRAINED}: {found}") from None
    return after


def _pattern(host: str, field: str) -> DomainPattern:
    if not host.strip():
        raise PolicyChangeRefused("invalid network host")
    try:
        return pattern_of(host)
    except Wrong as error:
        if "global wildcard" in str(error):
            raise PolicyChangeRefused(f"invalid value for {field}: {host.strip()} (allowed {_SCOPED})") from None
        raise PolicyChangeRefused(f"invalid network host {shown(host)}: {error}") from None
