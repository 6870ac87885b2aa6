"""`codex-proxy status`, `blocked`, `reload` and `mode`: questions to a proxy that runs already."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from codex_network_proxy.addons.config_file import find_config
from codex_network_proxy.addons.control_socket import socket_paths
from codex_network_proxy.policy.errors import ConfigError

from .config_commands import report

PATIENCE = 5.0
"""Seconds that a proxy has for its answer."""


class NoAnswer(Exception):
    """Nobody could be asked, or there was no good answer; the text is for the person at the terminal."""


def status(options: argparse.Namespace) -> int:
    """Prints what each running proxy of this user does. 0, or 1 when none runs."""
    command = "metrics" if options.prometheus else "status"
    return _for_each(options, command, _print_text if options.prometheus else _print_status)


def blocked(options: argparse.Namespace) -> int:
    """Prints the last blocks of each running proxy, oldest first."""
    return _for_each(options, "blocked", _print_blocked)


def reload(options: argparse.Namespace) -> int:
    """Makes the proxy read its configuration file now. 1 when that is broken; then everything is refused."""
    return _tell_one(options, "reload", "")


def mode(options: argparse.Namespace) -> int:
    """Narrows the mode until the next reload."""
    return _tell_one(options, "mode", options.mode)


def _for_each(options: argparse.Namespace, command: str, show: Any) -> int:
    try:
        running = answering(options)
        answers = {pid: ask(path, command) for pid, path in running}
    except (ConfigError, NoAnswer) as error:
        return _failed(error)
    if getattr(options, "json", False):
        print(json.dumps([{"pid": pid, command: answer} for pid, answer in answers.items()]))
        return 0
    for pid, answer in answers.items():
        show(pid, answer)
    return 0


def _tell_one(options: argparse.Namespace, command: str, argument: str) -> int:
    try:
        running = answering(options)
        if len(running) > 1:
            pids = ", ".join(str(pid) for pid, _ in running)
            raise NoAnswer(f"several proxies run ({pids}); add --pid")
        pid, path = running[0]
        print(f"proxy {pid}: {ask(path, command, argument)}")
    except (ConfigError, NoAnswer) as error:
        return _failed(error)
    return 0


def _failed(error: ConfigError | NoAnswer) -> int:
    if isinstance(error, ConfigError):
        return report(error)
    print(error, file=sys.stderr)
    return 1


def answering(options: argparse.Namespace) -> Sequence[tuple[int, Path]]:
    """The proxies that answer, or the one that was asked for. Raises `NoAnswer`."""
    home = find_config(os.environ).home
    found = [(pid, path) for pid, path in socket_paths(home) if _is_alive(path)]
    if options.pid is not None:
        found = [(pid, path) for pid, path in found if pid == options.pid]
    if not found:
        which = "proxy" if options.pid is None else f"proxy with process id {options.pid}"
        raise NoAnswer(f"no {which} runs with CODEX_HOME {home}")
    return found


def _is_alive(path: Path) -> bool:
    """Whether somebody listens; what a dead process left behind is removed."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with suppress(OSError):
                path.unlink()
            return False
        except OSError:
            return False
    return True


def ask(path: Path, command: str, argument: str = "") -> Any:
    """One question to one proxy. Raises `NoAnswer` with what went wrong."""
    question = json.dumps({"command": command, "argument": argument}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(PATIENCE)
            control.connect(str(path))
            control.sendall(question)
            with control.makefile("rb") as answers:
                answer = json.loads(answers.readline())
    except (OSError, ValueError) as error:
        raise NoAnswer(f"the proxy at {path} did not answer ({type(error).__name__})") from error
    if "error" in answer:
        raise NoAnswer(str(answer["error"]))
    return answer["result"]


def _print_text(pid: int, answer: str) -> None:
    print(answer, end="")


def _print_status(pid: int, answer: Mapping[str, Any]) -> None:
    for name, value in answer.items():
        if name != "decisions":
            print(f"{name.replace('_', ' ') + ':':17}{'-' if value is None else value}")
    for row in answer["decisions"]:
        print(f"  {row['count']:>8} {row['decision']:5} {row['reason']} ({row['protocol']})")


def _print_blocked(pid: int, answer: Sequence[Mapping[str, Any]]) -> None:
    for entry in answer:
        when = datetime.fromtimestamp(entry["timestamp"], UTC)
        target = f"{entry['host']}:{entry['port']}" if "port" in entry else entry["host"]
        method = f" {entry['method']}" if entry.get("method") else ""
        print(f"{when:%Y-%m-%d %H:%M:%S}Z {target}{method} {entry['reason']} ({entry['protocol']})")
