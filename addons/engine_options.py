"""The engine's own options, set so that none of them leads around the policy."""

from __future__ import annotations

import asyncio
from typing import cast

from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master
from mitmproxy.net import tls as net_tls
from mitmproxy.proxy import mode_specs

from .guard import LOCKED_OPTIONS, forbidden_option

WEB_PORT = 8083
"""mitmweb's own default, 8081, is the SOCKS port."""

OURS: dict[str, object] = {"onboarding": False, "connection_strategy": "lazy", "upstream_cert": False}
"""Options whose default is not ours."""

_DEFAULT_MODE = ["regular"]


def prepare_options(master: Master) -> str | None:
    """Sets what we need; returns a sentence when the user asked for something that cannot be policed."""
    options = master.options
    known = {name: value for name, value in OURS.items() if name in options}
    options.update(**known)
    if "web_port" in options and (not options.has_changed("web_port") or options.web_port == 0):
        # Its port must be known: it is one that the proxy never dials.
        options.update(web_port=WEB_PORT)
    return forbidden_option({*LOCKED_OPTIONS, "mode"} & set(options.keys()))


def write_no_session_keys() -> None:
    """The engine writes every TLS session key to the file that an inherited `SSLKEYLOGFILE` names."""
    net_tls.log_master_secret = None


def asked_for_listener(master: Master) -> bool:
    """Whether the user named an engine listener, with -p, --listen-host or --mode."""
    options = master.options
    return bool(options.listen_port is not None or options.listen_host or list(options.mode) != _DEFAULT_MODE)


def engine_ports(master: Master) -> set[int]:
    """The ports of the engine's own listeners, open or about to open."""
    proxyserver = cast(Proxyserver, master.addons.get("proxyserver"))
    bound = {port for _, port, *_ in proxyserver.listen_addrs()}
    if not master.options.server and not bound:
        return bound
    modes = (mode_specs.ProxyMode.parse(spec) for spec in master.options.mode)
    asked = {mode.listen_port(master.options.listen_port) for mode in modes}
    return bound | {port for port in asked if port}


def close_engine_listener(master: Master) -> None:
    """Keeps the engine from listening by itself.

    It is already on its way to bind when it loads a script, so its task is cancelled; nothing was bound yet.
    """
    master.options.update(server=False)
    for task in asyncio.all_tasks():
        if task.get_name() == "setup_servers":
            task.cancel()
    # It counts as open already, and would not be opened again.
    proxyserver = cast(Proxyserver, master.addons.get("proxyserver"))
    proxyserver.servers._instances.clear()
