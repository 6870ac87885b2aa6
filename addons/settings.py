"""Which configuration is in force? Options of the engine, the file, its reload; holds the authority the others ask."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from pathlib import Path

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader

from codex_network_proxy.policy.errors import ConfigError

from . import connection, http_streams
from .engine_options import asked_for_listener, close_engine_listener, prepare_options, write_no_session_keys
from .guard import Guard
from .reload import watch_file
from .runtime import RunOptions, Runtime
from .tenant import Tenant

logger = logging.getLogger("codex_network_proxy")


class Settings:
    """Loads the configuration once, watches it while the proxy runs. Without a usable one everything is denied."""

    name = connection.SETTINGS_ADDON

    def __init__(self, runtime: Runtime | None = None) -> None:
        self.runtime = runtime
        self.owns_runtime = runtime is None
        self._watch: asyncio.Task[None] | None = None
        self._reopen = False

    @property
    def tenant(self) -> Tenant | None:
        """Whose the clients of the engine's own listeners are."""
        return self.runtime

    def load(self, loader: Loader) -> None:
        connection.install()
        http_streams.install()
        loader.add_option("codex_config", str, "", "Configuration file; $CODEX_HOME/config.toml when empty.")
        loader.add_option("codex_profile", str, "", "Permissions profile; the file's own choice when empty.")
        loader.add_option("codex_audit_log", str, "", "File for audit events; below $CODEX_HOME when empty.")
        loader.add_option("codex_resolve", Sequence[str], [], "NAME=ADDRESS pairs that are not looked up.")
        loader.add_option("codex_fast_path", bool, True, "Relay tunnels that need no inspection outside the engine.")
        loader.add_option(
            "codex_fail_closed_audit", bool, False, "Refuse every request while the audit log cannot be written."
        )
        # The engine's own TLS addon follows the environment in this.
        write_no_session_keys()
        problem = prepare_options(ctx.master)
        if self.owns_runtime:
            self._take_over_listener(wanted=problem is None and asked_for_listener(ctx.master))
        if problem:
            # An exception here would leave the engine running without any policy.
            logger.error("%s", problem)
        if ctx.master.addons.get(Guard.name) is None:
            ctx.master.addons.add(Guard())

    def _take_over_listener(self, *, wanted: bool) -> None:
        """The engine's own listener opens only when it was asked for, and on loopback unless a host was named."""
        if wanted and ctx.options.listen_host:
            return
        close_engine_listener(ctx.master)
        ctx.options.update(listen_host="127.0.0.1")
        self._reopen = wanted

    def configure(self, updated: set[str]) -> None:
        if self.runtime is None and "codex_config" in updated:
            self.runtime = _load_runtime()
            if self.runtime:
                self.runtime.warn()

    def _use_roots(self) -> None:
        """What the engine's own TLS addon verifies origins against, where it is there."""
        if self.runtime and self.runtime.tls.upstream_bundle:
            ctx.options.update(ssl_verify_upstream_trusted_ca=str(self.runtime.tls.upstream_bundle))

    def running(self) -> None:
        if self.runtime is None:
            return
        self.runtime.authority.on_policy(self._use_roots)
        self._use_roots()
        if self._reopen:
            ctx.options.update(server=True)
        loop = asyncio.get_running_loop()
        self._watch = loop.create_task(watch_file(self.runtime))
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, self.runtime.reload)

    def done(self) -> None:
        if self._watch:
            self._watch.cancel()
            self._watch = None
        if self.runtime and self.owns_runtime:
            self.runtime.authority.replace(None)
            self.runtime.close()
            self.runtime = None


def _load_runtime() -> Runtime | None:
    options = RunOptions(
        config=Path(ctx.options.codex_config) if ctx.options.codex_config else None,
        profile=ctx.options.codex_profile or None,
        audit_log=Path(ctx.options.codex_audit_log) if ctx.options.codex_audit_log else None,
        pins=tuple(ctx.options.codex_resolve),
        fast_path=ctx.options.codex_fast_path,
        fail_closed_audit=ctx.options.codex_fail_closed_audit,
    )
    try:
        return Runtime(options)
    except ConfigError as error:
        for problem in error.problems:
            logger.error("%s", problem)
    except (OSError, ValueError) as error:
        logger.error("%s", error)
    return None
