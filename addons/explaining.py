"""Why does the running proxy allow or block a request? Explains the policy in force, changes by code included."""

from __future__ import annotations

from collections.abc import Sequence

from codex_network_proxy.policy.decision import NetworkPolicyRequest
from codex_network_proxy.policy.errors import ConfigError, ConfigProblem
from codex_network_proxy.policy.explain import Explanation, explain

from .authority import Authority
from .given_config import Configuration
from .live_policy import LivePolicy


async def explain_live(
    questions: Sequence[NetworkPolicyRequest], authority: Authority, live: LivePolicy, configuration: Configuration
) -> Explanation:
    """Explains the questions of `policy.inquiry.questions`; audits nothing, asks no decider.

    Looks the host up, also one that the proxy would refuse. Raises `ConfigError` while the configuration is broken.
    """
    if live.broken:
        raise ConfigError((ConfigProblem("configuration", "is broken, so every request is refused; repair the file"),))
    return await explain(questions, live.current_config, authority.world, configuration.origins(), live.managed)
