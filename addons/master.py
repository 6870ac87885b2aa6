"""The engine as `codex-proxy` runs it: few addons, safe options, a private directory, no signals of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Sequence
from typing import Any

from mitmproxy import command, ctx, http, log, master, options
from mitmproxy.addons import core, proxyserver
from mitmproxy.addons.next_layer import NextLayer

from .bundle import build
from .hook_dispatch import CachedAddons
from .runtime import Runtime
from .upstream_tls import UpstreamTls

KEY_LOG_VARIABLES = ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE")
"""Inherited, they would make the engine write session keys to a file."""


def _skip_type_checks(_: object) -> None:
    """In place of the engine's check of its own types, which it repeats for every message."""


class EngineMaster(master.Master):
    """An engine without console, scripts, replays or rewriting: only what serves requests."""

    def __init__(self, opts: options.Options, chain: Sequence[object]) -> None:
        # What the engine's own does, but no handler goes to the root logger: that is the embedding program's.
        self.options = opts
        self.commands = command.CommandManager(self)
        self.addons: CachedAddons = CachedAddons(self)
        self.log = log.Log(self)
        self._legacy_log_events = log.LegacyLogEvents(self)
        self.event_loop = asyncio.get_running_loop()
        self.should_exit = asyncio.Event()
        ctx.master, ctx.log, ctx.options = self, self.log, self.options
        own = (core.Core(), proxyserver.Proxyserver(), NextLayer(), UpstreamTls())
        self.addons.add(*own)  # type: ignore[no-untyped-call]  # the engine's own
        insert_chain(self, chain)


def insert_chain(engine: master.Master, chain: Sequence[object]) -> None:
    """Registers the addons where scripts would stand; the guard, which they bring, stays at the very end."""
    before = engine.addons.chain.index(engine.addons.get("nextlayer"))
    for addon in reversed(chain):
        engine.addons.chain.insert(before, engine.addons.register(addon))


class RunningEngine:
    """A started engine with its doors open."""

    def __init__(self, engine: master.Master, runtime: Runtime, task: asyncio.Task[None]) -> None:
        self._master = engine
        self._runtime = runtime
        self._task = task

    def addresses(self) -> dict[str, object]:
        """What the ready file holds: the addresses as bound."""
        interception = self._runtime.tls.interception
        ca = str(interception.ca) if interception else None
        found: dict[str, object] = {"http": self._runtime.http_address, "socks": self._runtime.socks_address, "ca": ca}
        if web_url := getattr(self._master, "web_url", None):
            found["web"] = web_url
        return found

    def listeners(self) -> list[str]:
        """One line for each listener, for the person who started the proxy."""
        lines = self._runtime.listeners()
        if web_url := getattr(self._master, "web_url", None):
            lines.append(f"mitmweb listening on {web_url}")
        return lines

    async def stop(self, limit: float) -> None:
        """Ends the engine; what has not ended after `limit` seconds is cut."""
        self._master.should_exit.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._task


async def start_engine(runtime: Runtime, web_port: int | None) -> RunningEngine:
    """Starts engine and doors in the running loop. Raises `OSError` when an address cannot be had."""
    for name in KEY_LOG_VARIABLES:
        os.environ.pop(name, None)
    http.MessageData.__post_init__ = _skip_type_checks  # type: ignore[method-assign]
    opts = options.Options()
    chain = build(runtime)
    engine = EngineMaster(opts, chain) if web_port is None else _web_master(opts, chain, web_port)
    opts.update(server=False, mode=[], confdir=str(runtime.engine_directory()))
    task = asyncio.get_running_loop().create_task(engine.run())
    started = asyncio.ensure_future(runtime.started.wait())
    await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED)
    if not runtime.started.is_set():
        started.cancel()
        await task
        raise runtime.failure or OSError("the engine did not start")
    # What is loaded now lives as long as the process: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    return RunningEngine(engine, runtime, task)


def _web_master(opts: options.Options, chain: Sequence[object], port: int) -> Any:
    from .web_master import CodexWebMaster

    return CodexWebMaster(opts, chain, port)
