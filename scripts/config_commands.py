"""`codex-proxy check`, `config` and `init`: everything about the configuration that needs no running proxy."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from codex_network_proxy.addons.config_file import (
    BUILT_IN,
    ConfigSource,
    find_config,
    read,
    read_text,
    read_with_origins,
)
from codex_network_proxy.policy.config import default_config_text
from codex_network_proxy.policy.effective import effective_lines
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.text import numbered

from .first_config import first_config


def check(options: argparse.Namespace) -> int:
    """Validates and lints; prints each problem on a line of its own. 0 when the proxy would start."""
    try:
        source = find_config(os.environ, options.config, options.profile)
        loaded = read(source)
        NetworkPolicy.compile(loaded.settings)
    except ConfigError as error:
        return report(error)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    settings = loaded.settings
    if settings.enabled and (problem := settings.listen_problem):
        print(f"{_name(source)}: {problem}", file=sys.stderr)
        return 1
    enabled = "enabled" if settings.enabled else "disabled"
    print(
        f"{_name(source)}: ok ({len(settings.allowed)} allowed, {len(settings.denied)} denied, "
        f"{numbered(len(settings.hooks), 'hook')}, mode {settings.mode}, {enabled})"
    )
    return 0


def show(options: argparse.Namespace) -> int:
    """Prints the file's text, or with `--show` the policy that follows from it and the line of each part."""
    try:
        source = find_config(os.environ, options.config, options.profile)
        if options.show:
            loaded, origins = read_with_origins(source)
            lines = [f"# {_name(source)}", *effective_lines(loaded, origins)]
        else:
            text = read_text(source)
            lines = [f"# {_name(source)}", *(default_config_text() if text is None else text).splitlines()]
    except ConfigError as error:
        return report(error)
    print("\n".join(lines))
    return 0


def init(options: argparse.Namespace) -> int:
    """Writes a commented file to start from; never overwrites one."""
    try:
        path: Path = options.config or find_config(os.environ, None).home / "config.toml"
    except ConfigError as error:
        return report(error)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(first_config(options.preset))
    except OSError as error:
        if isinstance(error, FileExistsError) and error.filename == str(path):
            print(f"{path} exists already and was left as it is", file=sys.stderr)
            return 1
        why = f"{path.parent} is not a directory" if isinstance(error, FileExistsError) else error.strerror
        print(f"cannot write {path}: {why}", file=sys.stderr)
        return 1
    print(f"wrote {path}")
    return 0


def report(error: ConfigError) -> int:
    """One line for each problem, all at once (spec A1.2)."""
    for problem in error.problems:
        print(problem, file=sys.stderr)
    return 1


def _exists(source: ConfigSource) -> bool:
    return source.required or source.path.exists()


def _name(source: ConfigSource) -> str:
    return str(source.path) if _exists(source) else BUILT_IN
