"""The engine's addon manager with its look-ups done once: which functions a hook calls changes only with the chain."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import fields
from typing import Any

from mitmproxy import addonmanager, exceptions, hooks
from mitmproxy.flow import Flow

Function = Callable[..., Any]
Functions = tuple[Function, ...]
Arguments = tuple[Any, ...]

_FIELDS: dict[type[hooks.Hook], tuple[str, ...]] = {}


class CachedAddons(addonmanager.AddonManager):
    """Calls the same functions in the same order, with the same handling of errors.

    For a chain that is put together at start: addons that change their own hooks later are not noticed.
    """

    def __init__(self, master: Any) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]  # the engine's own
        self._table: dict[str, tuple[Functions, ...]] = {}
        self._ours: dict[type[hooks.Hook], bool] = {}

    def register(self, addon: Any) -> Any:
        self._forget()
        return super().register(addon)  # type: ignore[no-untyped-call]  # the engine's own

    def remove(self, addon: Any) -> None:
        self._forget()
        super().remove(addon)  # type: ignore[no-untyped-call]  # the engine's own

    def _forget(self) -> None:
        self._table.clear()
        self._ours.clear()

    def functions(self, event: hooks.Hook) -> tuple[Functions, ...]:
        """For each addon of the chain that has this hook, the functions of it and of its children."""
        known = self._table.get(event.name)
        if known is None:
            found = (tuple(function for _, function in self._iter_hooks(addon, event)) for addon in self.chain)
            known = self._table[event.name] = tuple(functions for functions in found if functions)
        return known

    def are_ours(self, *kinds: type[hooks.Hook]) -> bool:
        """Whether no addon but this program's own has one of these hooks."""
        for kind in kinds:
            if kind not in self._ours:
                self._ours[kind] = self._is_ours(kind)
        return all(self._ours[kind] for kind in kinds)

    def start(self, event: hooks.Hook) -> Coroutine[Any, Any, None] | None:
        """As `handle_lifecycle`, but at once as far as nothing has to be awaited; what is left, if anything is."""
        arguments = arguments_of(event)
        update = self._update(arguments[0])
        rest = self._begin(event, arguments)
        if update is None:
            return rest
        return self._both(rest, update)

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        rest = self.start(event)
        if rest is not None:
            await rest

    async def trigger_event(self, event: hooks.Hook) -> None:
        rest = self._begin(event, arguments_of(event))
        if rest is not None:
            await rest

    def _update(self, message: object) -> hooks.Hook | None:
        """What follows on a hook of a flow, if anybody wants to know."""
        if not isinstance(message, Flow) or self._table.get(hooks.UpdateHook.name) == ():
            return None
        update = hooks.UpdateHook([message])
        return update if self.functions(update) else None

    async def _both(self, rest: Coroutine[Any, Any, None] | None, update: hooks.Hook) -> None:
        if rest is not None:
            await rest
        await self.trigger_event(update)

    def _begin(self, event: hooks.Hook, arguments: Arguments) -> Coroutine[Any, Any, None] | None:
        groups = iter(self.functions(event))
        for functions in groups:
            rest = iter(functions)
            try:
                for function in rest:
                    result = function(*arguments)
                    if result is not None and inspect.isawaitable(result):
                        return self._go_on(result, rest, groups, arguments)
            except exceptions.AddonHalt:
                return None
            except exceptions.OptionsError:
                raise
            except Exception:
                with addonmanager.safecall():
                    raise
        return None

    async def _go_on(
        self, result: Awaitable[Any], rest: Iterator[Function], groups: Iterator[Functions], arguments: Arguments
    ) -> None:
        try:
            await self._finish(result, rest, arguments)
            for functions in groups:
                await self._finish(None, iter(functions), arguments)
        except exceptions.AddonHalt:
            return

    async def _finish(self, result: Awaitable[Any] | None, rest: Iterator[Function], arguments: Arguments) -> None:
        try:
            if result is not None:
                await result
            for function in rest:
                result = function(*arguments)
                if result is not None and inspect.isawaitable(result):
                    await result
        except (exceptions.AddonHalt, exceptions.OptionsError):
            raise
        except Exception:
            with addonmanager.safecall():
                raise

    def _is_ours(self, kind: type[hooks.Hook]) -> bool:
        who = [addon for addon in addonmanager.traverse(self.chain) if getattr(addon, kind.name, None)]
        return all(type(addon).__module__.startswith(__package__) for addon in who)


def arguments_of(hook: hooks.Hook) -> tuple[Any, ...]:
    """What a hook's functions are called with, without asking its class for its fields each time."""
    kind = type(hook)
    names = _FIELDS.get(kind)
    if names is None:
        names = _FIELDS[kind] = tuple(field.name for field in fields(kind))  # type: ignore[arg-type]  # each hook is one
    return tuple([getattr(hook, name) for name in names])
