"""Who waits for the decider's word? Asks on behalf of each client, and stops when the client is gone (spec A10)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from codex_network_proxy.policy.deciding import DECIDER_TIMEOUT, AskedOnce, Deciding
from codex_network_proxy.policy.decision import Allowed, DecisionSource, NetworkDecision, NetworkPolicyRequest
from codex_network_proxy.policy.interfaces import NetworkPolicyDecider

logger = logging.getLogger("codex_network_proxy")


class Questions:
    """The questions of one authority. `timeout` is in seconds; raises `ValueError` when it is none."""

    def __init__(self, decider: NetworkPolicyDecider, timeout: float = DECIDER_TIMEOUT) -> None:
        self._deciding = Deciding(decider, timeout=timeout, note=logger.warning)
        self._open: dict[str, set[AskedOnce]] = {}

    @contextmanager
    def about(self, request: NetworkPolicyRequest, tunnel: Allowed | None) -> Iterator[AskedOnce]:
        """The asker for one request. What a decider said of the tunnel around it holds for the request as well."""
        through = tunnel is not None and was_decided(tunnel) and tunnel.request.target == request.target
        asked = AskedOnce(self._deciding, NetworkDecision.allow() if through else None)
        client = request.client_address or ""
        self._open.setdefault(client, set()).add(asked)
        try:
            yield asked
        finally:
            mine = self._open[client]
            mine.discard(asked)
            if not mine:
                del self._open[client]

    def client_left(self, client_address: str) -> None:
        """Answers whatever is still asked for this client with a deny."""
        for asked in list(self._open.get(client_address, ())):
            asked.leave()

    def close(self) -> None:
        """Ends every question with a deny."""
        self._deciding.close()


def was_decided(allowed: Allowed) -> bool:
    """Whether a decider, not a list, allowed the host."""
    return allowed.rulings[0].source is DecisionSource.DECIDER
