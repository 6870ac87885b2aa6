"""What may its own user ask a running proxy, or tell it? Never anything that opens what the file closes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from codex_network_proxy.policy.metrics import Gauges, prometheus_text
from codex_network_proxy.policy.modes import NetworkMode

from .child_route import live_route
from .config_file import BUILT_IN
from .control_socket import Command, ControlSocket

if TYPE_CHECKING:
    from .runtime import Runtime
    from .settings import Settings


class Control:
    """Who may ask this proxy? Its own user, over a private socket that lives as long as the engine runs."""

    name = "codex-control"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._socket: ControlSocket | None = None

    async def running(self) -> None:
        runtime = self._settings.runtime
        if runtime is not None and runtime.started.is_set():
            self._socket = ControlSocket(runtime.home, commands(runtime))
            if runtime.authority.sockets is not None:
                runtime.authority.sockets.own.add(str(self._socket.path))
            await self._socket.start()

    def done(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def commands(runtime: Runtime) -> Mapping[str, Command]:
    """The commands of one proxy by name. None of them opens what the configuration file closes."""
    control = _Control(runtime)
    return {
        "status": lambda _: control.status(),
        "blocked": lambda _: control.blocked(),
        "metrics": lambda _: control.metrics(),
        "reload": lambda _: control.reload(),
        "mode": control.mode,
        "route": lambda _: control.route(),
    }


class _Control:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._started = time.monotonic()

    def status(self) -> dict[str, object]:
        runtime, gauges = self._runtime, self._gauges()
        return {
            "pid": os.getpid(),
            "config": str(runtime.source.path) if runtime.source.required else BUILT_IN,
            "profile": runtime.loaded.profile,
            "policy": "in force" if gauges.policy_in_force else "broken: every request is refused",
            "enabled": runtime.settings.enabled,
            "mode": runtime.authority.mode.value,
            "http": runtime.http_address,
            "socks": runtime.socks_address,
            "connections": gauges.connections,
            "allowed_domains": gauges.allowed_patterns,
            "denied_domains": gauges.denied_patterns,
            "blocked": gauges.blocked_total,
            "audit_log": str(runtime.audit_path),
            "audit_dropped": gauges.audit_dropped,
            "uptime": round(gauges.uptime),
            "decisions": [
                {"protocol": protocol, "decision": decision, "reason": reason, "count": count}
                for (protocol, decision, reason), count in sorted(runtime.audit.counters.counts.items())
            ],
        }

    def blocked(self) -> list[dict[str, str | int | None]]:
        return [entry.fields() for entry in self._runtime.authority.blocked.snapshot()]

    def metrics(self) -> str:
        return prometheus_text(self._runtime.audit.counters.counts, self._gauges())

    def reload(self) -> str:
        self._runtime.reload()
        if self._runtime.authority.policy is None:
            raise ValueError("the configuration is broken; every request is refused, see the proxy's log")
        return "reloaded"

    def mode(self, wanted: str) -> str:
        """Narrows only: a program behind the proxy may be able to reach this socket."""
        if wanted != NetworkMode.LIMITED:
            raise ValueError('write "limited"; to get back to the mode of the file, reload')
        self._runtime.live.set_network_mode(NetworkMode.LIMITED)
        return NetworkMode.LIMITED.value

    def route(self) -> dict[str, object]:
        """Where programs find this proxy. Names variables with secrets, and holds none."""
        if self._runtime.given is not None:
            raise ValueError("only its own command can reach this proxy")
        return asdict(live_route(self._runtime))

    def _gauges(self) -> Gauges:
        runtime, policy = self._runtime, self._runtime.authority.policy
        return Gauges(
            policy_in_force=policy is not None,
            connections=runtime.door.taken if runtime.door else 0,
            allowed_patterns=len(policy.allowed) if policy else 0,
            denied_patterns=len(policy.denied) if policy else 0,
            blocked_total=runtime.authority.blocked.total,
            audit_dropped=runtime.audit.dropped,
            uptime=time.monotonic() - self._started,
        )
