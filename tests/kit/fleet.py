"""Proxies that many tests share: each configuration is started once, when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from .origins import HttpOrigin
from .policies import Policy
from .proxy import ProxyProcess
from .world import World


class Fleet:
    """Running proxies by configuration and path. `{port}` in a pattern stands for the shared origin's port.

    `environment` holds what every proxy of the fleet finds in its environment, beside the little there is.
    """

    def __init__(self, folder: Path, origin: HttpOrigin, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.origin = origin
        self.environment = environment
        self._running: dict[tuple[Policy, bool], ProxyProcess] = {}
        self._stack = ExitStack()

    def get(self, policy: Policy, fast_path: bool = True) -> ProxyProcess:
        key = (policy, fast_path)
        if key not in self._running:
            home = self.folder / f"proxy-{len(self._running)}"
            names = {name: list(answers) for name, answers in policy.names}
            proxy = ProxyProcess(
                home,
                self._filled(policy),
                fast_path=fast_path,
                world=World(home / "world", names),
                environment=self.environment,
            )
            self._running[key] = self._stack.enter_context(proxy)
        proxy = self._running[key]
        assert proxy.child.poll() is None, f"the proxy ended with {proxy.child.returncode}:\n{proxy.output[-4000:]}"
        return proxy

    def _filled(self, policy: Policy) -> Policy:
        def fill(patterns: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(pattern.replace("{port}", str(self.origin.port)) for pattern in patterns)

        return replace(policy, allowed=fill(policy.allowed), denied=fill(policy.denied))

    def close(self) -> None:
        for proxy in self._running.values():
            proxy.child.terminate()  # All at once; then each is waited for.
        self._stack.close()
