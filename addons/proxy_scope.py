"""A way into the proxy for one command, and the environment that leads there (spec A10, B9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType

from codex_network_proxy.policy.decision import ClientScope

from .proxy_life import ProxyLife
from .scope_listeners import ScopeListeners

Environment = Callable[[ScopeListeners], dict[str, str]]


class ProxyScope:
    """Open inside `async with` or `with`, which yield the environment for the child; made by `NetworkProxy.scope`.

    What comes in through it carries what was said of it, to the decider and into the audit. At its end its listeners
    and connections are closed.
    """

    def __init__(self, life: ProxyLife, scope: ClientScope, environment: Environment) -> None:
        self._life = life
        self._scope = scope
        self._environment = environment
        self._opened: ScopeListeners | None = None

    @property
    def http_address(self) -> str:
        """Where the HTTP proxy listens for this scope. Raises `RuntimeError` when it is not open."""
        return self._listeners.http

    @property
    def socks_address(self) -> str | None:
        """Where the SOCKS5 proxy listens for this scope; `None` when it is off. Raises `RuntimeError` when not open."""
        return self._listeners.socks

    @property
    def _listeners(self) -> ScopeListeners:
        if self._opened is None:
            raise RuntimeError("the scope is not open")
        return self._opened

    async def __aenter__(self) -> dict[str, str]:
        opening = self._open()
        try:
            self._opened = await asyncio.shield(asyncio.wrap_future(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(self._give_up)
            raise
        return self._environment(self._opened)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if closing := self._close():
            await asyncio.shield(asyncio.wrap_future(closing))

    def __enter__(self) -> dict[str, str]:
        self._opened = self._open().result()
        return self._environment(self._opened)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if closing := self._close():
            closing.result()

    def _open(self) -> Future[ScopeListeners]:
        if self._opened is not None:
            raise RuntimeError("the scope is open already")
        return self._life.open_scope(self._scope)

    def _close(self) -> Future[None] | None:
        opened, self._opened = self._opened, None
        with suppress(RuntimeError):  # the proxy has ended meanwhile, and its scopes with it
            return self._life.close_scope(opened) if opened else None
        return None

    def _give_up(self, opening: Future[ScopeListeners]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            with suppress(RuntimeError):
                self._life.close_scope(opening.result())
