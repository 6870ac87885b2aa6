"""Where do clients come in? Opens the front door while the engine runs, and closes it with the script."""

from __future__ import annotations

import logging

from mitmproxy import ctx

from codex_network_proxy.socks.listener import raise_descriptor_limit

from .engine import InProcessEngine
from .engine_options import engine_ports
from .reload import cut_after_changes
from .runtime import Runtime
from .settings import Settings
from .web_entries import WebEntries

logger = logging.getLogger("codex_network_proxy")


class Doors:
    """Binds the listeners of the configuration once the engine is there to take connections over."""

    name = "codex-front-door"

    def __init__(self, settings: Settings, entries: WebEntries) -> None:
        self._settings = settings
        self._entries = entries
        self._engine: InProcessEngine | None = None

    def running(self) -> None:
        runtime = self._settings.runtime
        if runtime is None:
            ctx.master.shutdown()
            return
        if not runtime.settings.enabled:
            logger.warning("network.enabled is false; skipping proxy listeners")
            ctx.master.shutdown()
            return
        try:
            self.open(runtime)
        except Exception as error:
            # Without its door the proxy must not look as if it ran.
            runtime.failure = error
            logger.error("%s", getattr(error, "strerror", None) or error)
            ctx.master.shutdown()
        else:
            runtime.started.set()
            if self._settings.owns_runtime:
                for line in runtime.listeners():
                    logger.info("%s", line)

    def open(self, runtime: Runtime) -> None:
        """Connects authority, door, engine and mitmweb. Raises `OSError` when an address cannot be had."""
        raise_descriptor_limit()
        self._engine = InProcessEngine(ctx.master, runtime)
        runtime.authority.on_block(self._entries.block_seen)
        cut_after_changes(runtime, self._engine)
        self._protect_engine_listeners(runtime)
        # Without a view nobody looks at tunnels, and reporting them costs a tenth of their set-up.
        runtime.open_door(self._engine, self._entries if ctx.master.addons.get("view") is not None else None)

    def _protect_engine_listeners(self, runtime: Runtime) -> None:
        for port in engine_ports(ctx.master):
            runtime.authority.own_listeners.add(port)
        if ctx.master.addons.get("webaddon") is not None:
            runtime.authority.own_listeners.add(ctx.options.web_port)

    def done(self) -> None:
        if self._engine:
            self._engine.close()
            self._engine = None
        runtime = self._settings.runtime
        if runtime and runtime.door:
            runtime.door.close()
