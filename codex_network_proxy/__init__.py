"""codex-network-proxy: one door to the network, one policy.

Everything that a program needs to embed the proxy can be imported from here. It is loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .addons.network_proxy import NetworkProxy
    from .addons.proxy_builder import NetworkProxyBuilder
    from .addons.proxy_handle import NetworkProxyHandle
    from .addons.proxy_scope import ProxyScope
    from .addons.proxy_state import NetworkProxyState
    from .policy.audit import PolicyDecisionEvent
    from .policy.blocked import BlockedRequest
    from .policy.constraints import Constraints
    from .policy.decision import (
        BlockReason,
        ClientScope,
        Decision,
        DecisionSource,
        NetworkDecision,
        NetworkPolicyRequest,
        NetworkProtocol,
    )
    from .policy.errors import ConfigError, ConfigProblem, PolicyChangeRefused
    from .policy.explain import Explanation
    from .policy.modes import NetworkMode
    from .policy.overlays import ManagedPolicy, NetworkRequirements, NetworkRule
    from .policy.settings import NetworkSettings

__version__ = "0.1.0"

_HOMES = {
    "NetworkProxy": "addons.network_proxy",
    "NetworkProxyHandle": "addons.proxy_handle",
    "NetworkProxyBuilder": "addons.proxy_builder",
    "ProxyScope": "addons.proxy_scope",
    "NetworkProxyState": "addons.proxy_state",
    "PolicyDecisionEvent": "policy.audit",
    "BlockedRequest": "policy.blocked",
    "Constraints": "policy.constraints",
    "BlockReason": "policy.decision",
    "ClientScope": "policy.decision",
    "Decision": "policy.decision",
    "DecisionSource": "policy.decision",
    "NetworkDecision": "policy.decision",
    "NetworkPolicyRequest": "policy.decision",
    "NetworkProtocol": "policy.decision",
    "ConfigError": "policy.errors",
    "ConfigProblem": "policy.errors",
    "PolicyChangeRefused": "policy.errors",
    "Explanation": "policy.explain",
    "NetworkMode": "policy.modes",
    "ManagedPolicy": "policy.overlays",
    "NetworkRequirements": "policy.overlays",
    "NetworkRule": "policy.overlays",
    "NetworkSettings": "policy.settings",
}

__all__ = [
    "BlockReason",
    "BlockedRequest",
    "ClientScope",
    "ConfigError",
    "ConfigProblem",
    "Constraints",
    "Decision",
    "DecisionSource",
    "Explanation",
    "ManagedPolicy",
    "NetworkDecision",
    "NetworkMode",
    "NetworkPolicyRequest",
    "NetworkProtocol",
    "NetworkProxy",
    "NetworkProxyBuilder",
    "NetworkProxyHandle",
    "NetworkProxyState",
    "NetworkRequirements",
    "NetworkRule",
    "NetworkSettings",
    "PolicyChangeRefused",
    "PolicyDecisionEvent",
    "ProxyScope",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
