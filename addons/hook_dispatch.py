"""The engine's addon manager with its look-ups done once: which functions a hook calls changes only with the chain."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mitmproxy import addonmanager, exceptions, hooks
from mitmproxy.flow import Flow

from .engine_events import argument_of

Functions = tuple[Callable[..., Any], ...]


class CachedAddons(addonmanager.AddonManager):
    """Calls the same functions in the same order, with the same handling of errors.

    For a chain that is put together at start: addons that change their own hooks later are not noticed.
    """

    def __init__(self, master: Any) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]  # the engine's own
        self._table: dict[str, tuple[Functions, ...]] = {}

    def register(self, addon: Any) -> Any:
        self._table.clear()
        return super().register(addon)  # type: ignore[no-untyped-call]  # the engine's own

    def remove(self, addon: Any) -> None:
        self._table.clear()
        super().remove(addon)  # type: ignore[no-untyped-call]  # the engine's own

    def functions(self, event: hooks.Hook) -> tuple[Functions, ...]:
        """For each addon of the chain that has this hook, the functions of it and of its children."""
        known = self._table.get(event.name)
        if known is None:
            found = (tuple(function for _, function in self._iter_hooks(addon, event)) for addon in self.chain)
            known = self._table[event.name] = tuple(functions for functions in found if functions)
        return known

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        message = argument_of(event)
        await self.trigger_event(event)
        if isinstance(message, Flow):
            update = hooks.UpdateHook([message])
            if self.functions(update):
                await self.trigger_event(update)

    async def trigger_event(self, event: hooks.Hook) -> None:
        for functions in self.functions(event):
            try:
                await self._call(functions, event)
            except exceptions.AddonHalt:
                return

    async def _call(self, functions: Functions, event: hooks.Hook) -> None:
        try:
            for function in functions:
                result = function(*event.args())
                if result is not None and inspect.isawaitable(result):
                    await result
        except (exceptions.AddonHalt, exceptions.OptionsError):
            raise
        except Exception:
            with addonmanager.safecall():
                raise
