"""The engine's own options, set so that none of them leads around the policy."""

from __future__ import annotations

import asyncio

from mitmproxy.master import Master

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
    if "web_port" in options and not options.has_changed("web_port"):
        options.update(web_port=WEB_PORT)
    return forbidden_option({*LOCKED_OPTIONS, "mode"} & set(options.keys()))


def asked_for_listener(master: Master) -> bool:
    """Whether the user named an engine listener, with -p, --listen-host or --mode."""
    options = master.options
    return bool(options.listen_port is not None or options.listen_host or list(options.mode) != _DEFAULT_MODE)


def close_engine_listener(master: Master) -> None:
    """Keeps the engine from listening by itself.

    It is already on its way to bind when it loads a script, so its task is cancelled; nothing was bound yet.
    """
    master.options.update(server=False)
    for task in asyncio.all_tasks():
        if task.get_name() == "setup_servers":
            task.cancel()
