"""The last word: no recorded allow, no answer from outside and no dial. Belongs to the master, not to the script."""

from __future__ import annotations

from collections.abc import Iterable

from mitmproxy import ctx, exceptions, http, tls
from mitmproxy.proxy import layer, mode_specs, server_hooks

from .blocked import refuse_undecided
from .connection import REFUSED
from .sessions import session_for, session_of
from .tls_routing import CloseLayer, insist_on_interception, may_follow

LOCKED_OPTIONS: dict[str, object] = {
    "ssl_insecure": False,
    "proxy_debug": False,
    "validate_inbound_headers": True,
    "stream_large_bodies": None,
    "onboarding": False,
    "connection_strategy": "lazy",
    "rawtcp": True,
    "ignore_hosts": [],
    "allow_hosts": [],
    "tcp_hosts": [],
    "udp_hosts": [],
}
"""Options that would open a way around the policy or put secrets into the log, at the only value they may have."""


class Guard:
    """Denies what nothing allowed. It outlives a script that is broken, unloaded or overruled by another."""

    name = "codex-guard"

    def configure(self, updated: Iterable[str]) -> None:
        """Vetoes options that would lead around the policy; the engine then keeps the old value."""
        if problem := forbidden_option(updated):
            raise exceptions.OptionsError(problem)

    def next_layer(self, data: layer.NextLayer) -> None:
        if not may_follow(data, session_of(data.context.client.id)):
            data.layer = CloseLayer(data.context)

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        insist_on_interception(data)

    def http_connect(self, flow: http.HTTPFlow) -> None:
        session = session_for(flow)
        if flow.response is None and (session is None or session.tunnel is None):
            refuse_undecided(flow)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        session = session_for(flow)
        if flow.response is None and (session is None or session.approved(flow) is None):
            refuse_undecided(flow)

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        session = session_of(data.client.id)
        address = data.server.address
        if session is None or address is None or (address[0], address[1]) not in session.grants:
            data.server.error = REFUSED


def forbidden_option(updated: Iterable[str]) -> str | None:
    """The first of these options whose value the guard refuses, as a sentence for the person who set it."""
    for name in updated:
        if name in LOCKED_OPTIONS and name in ctx.options and _value(name) != LOCKED_OPTIONS[name]:
            return f"{name} must stay {LOCKED_OPTIONS[name]!r}: any other value would lead around the network policy"
    if "mode" in updated:
        return next((problem for spec in ctx.options.mode if (problem := _mode_problem(spec))), None)
    return None


def _value(name: str) -> object:
    value = getattr(ctx.options, name)
    return list(value) if isinstance(value, tuple) else value


def _mode_problem(spec: str) -> str | None:
    try:
        if isinstance(mode_specs.ProxyMode.parse(spec), mode_specs.RegularMode):
            return None
    except ValueError:
        pass
    return f"mode {spec!r} cannot be policed; use regular, for example --mode regular@127.0.0.1:9000"
