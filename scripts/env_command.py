"""`codex-proxy env`: the variables that lead a shell's programs through the proxy that runs."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from codex_network_proxy.addons.ca_files import proxy_directory
from codex_network_proxy.addons.child_route import with_java
from codex_network_proxy.addons.config_file import find_config, read
from codex_network_proxy.addons.trust import CHILD_BUNDLE
from codex_network_proxy.policy.child_env import ChildRoute, child_env
from codex_network_proxy.policy.errors import ConfigError

from .config_commands import report
from .control_commands import NoAnswer, NoneRuns, ask, the_one

Changes = Mapping[str, str | None]
"""Variables and their values; without one it is to be removed."""


def env(options: argparse.Namespace) -> int:
    """Prints what the shell is to evaluate. 1 when no proxy can be found."""
    try:
        route = _route(options)
    except ConfigError as error:
        return report(error)
    except NoAnswer as error:
        print(f"codex-proxy: {error}", file=sys.stderr)
        return 1
    shell = options.shell or ("fish" if os.environ.get("SHELL", "").endswith("fish") else "bash")
    for line in _FORMS[shell](changes(with_java(route), os.environ)):
        print(line)
    return 0


def changes(route: ChildRoute, environ: Mapping[str, str]) -> Changes:
    """What of the environment is to be different."""
    wanted = child_env(environ, route)
    ours = child_env({}, route).keys()
    found: dict[str, str | None] = {name: wanted[name] for name in sorted(ours)}
    return found | dict.fromkeys(sorted(set(environ) - set(wanted)))


def _route(options: argparse.Namespace) -> ChildRoute:
    """Of the proxy that runs, else of the one that the configuration describes. Raises `NoAnswer`."""
    try:
        _, path = the_one(options)
    except NoneRuns:
        if options.pid is not None:
            raise
        return _described(options)
    return _asked(path)


def _asked(path: Path) -> ChildRoute:
    answer = ask(path, "route")
    try:
        return ChildRoute(**{**answer, "secrets": tuple(answer["secrets"])})
    except (TypeError, KeyError):
        raise NoAnswer("the proxy that runs is of another version; start it again") from None


def _described(options: argparse.Namespace) -> ChildRoute:
    source = find_config(os.environ, options.config, options.profile)
    settings = read(source).settings
    if not settings.enabled:
        raise NoAnswer("no proxy runs, and network.enabled is false in the configuration")
    http, socks = settings.http_bind.address, settings.socks_bind.address if settings.enable_socks5 else None
    if not http.port or (socks and not socks.port):
        raise NoAnswer("no proxy runs, and the configuration does not say on which port one would; start it first")
    print("codex-proxy: no proxy runs; these are the addresses of the configuration", file=sys.stderr)
    bundle = proxy_directory(source.home) / CHILD_BUNDLE if settings.mitm else None
    if bundle and not bundle.exists():
        print("codex-proxy: what programs must trust is made when the proxy first starts", file=sys.stderr)
    return ChildRoute.of(settings, str(http), str(socks) if socks else None, str(bundle) if bundle else None)


# -- shells ----------------------------------------------------------------------------------------------------------


def _bash(found: Changes) -> Iterator[str]:
    for name, value in found.items():
        yield f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"


def _fish(found: Changes) -> Iterator[str]:
    for name, value in found.items():
        yield f"set -e {name}" if value is None else f"set -gx {name} {_fish_quoted(value)}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _json(found: Changes) -> Iterator[str]:
    yield json.dumps(found, indent=2)


_FORMS: Mapping[str, Callable[[Changes], Iterator[str]]] = {"bash": _bash, "fish": _fish, "json": _json}
