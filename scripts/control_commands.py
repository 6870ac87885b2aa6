"""`codex-proxy status`, `blocked`, `reload` and `mode`: questions to a proxy that runs already."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
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


class NoneRuns(NoAnswer):
    """There is no such proxy."""


def status(options: argparse.Namespace) -> int:
    """Prints what each running proxy of this user does. 0, or 1 when none runs, or one does not answer."""
    if options.prometheus:
        return _with_one(options, lambda pid, path: print(ask(path, "metrics"), end=""))
    return _for_each(options, "status", _print_status)


def blocked(options: argparse.Namespace) -> int:
    """Prints the last blocks of each running proxy, oldest first."""
    return _for_each(options, "blocked", _print_blocked)


def reload(options: argparse.Namespace) -> int:
    """Makes the proxy read its configuration file now. 1 when that is broken; then everything is refused."""
    return _with_one(options, lambda pid, path: print(f"proxy {pid}: {ask(path, 'reload')}"))


def mode(options: argparse.Namespace) -> int:
    """Narrows the mode until the next reload."""
    return _with_one(
        options, lambda pid, path: print(f"proxy {pid}: mode {ask(path, 'mode', options.mode)} until the next reload")
    )


def _for_each(options: argparse.Namespace, command: str, show: Callable[[int, Any], None]) -> int:
    """Those that do not answer keep nobody from seeing the others."""
    try:
        running = answering(options)
    except (ConfigError, NoAnswer) as error:
        return _failed(error)
    code, answers = 0, dict[int, Any]()
    for pid, path in running:
        try:
            answers[pid] = ask(path, command)
        except NoAnswer as error:
            code = _failed(error)
    if options.json:
        print(json.dumps([{"pid": pid, command: answer} for pid, answer in answers.items()]))
        return code
    for number, (pid, answer) in enumerate(answers.items()):
        if number:
            print()
        show(pid, answer)
    return code


def _with_one(options: argparse.Namespace, act: Callable[[int, Path], None]) -> int:
    try:
        act(*the_one(options))
    except (ConfigError, NoAnswer) as error:
        return _failed(error)
    return 0


def _failed(error: ConfigError | NoAnswer) -> int:
    if isinstance(error, ConfigError):
        return report(error)
    print(error, file=sys.stderr)
    return 1


def answering(options: argparse.Namespace) -> Sequence[tuple[int, Path]]:
    """The proxies that answer, or the one that was asked for. Raises `NoneRuns`."""
    home = find_config(os.environ).home
    found = [(pid, path) for pid, path in socket_paths(home) if _is_alive(path)]
    if options.pid is not None:
        found = [(pid, path) for pid, path in found if pid == options.pid]
    if not found:
        which = "proxy" if options.pid is None else f"proxy with process id {options.pid}"
        raise NoneRuns(f"no {which} runs with CODEX_HOME {home}")
    return found


def the_one(options: argparse.Namespace) -> tuple[int, Path]:
    """The proxy that runs, or the one that was asked for. Raises `NoAnswer`, also when there are several."""
    running = answering(options)
    if len(running) > 1:
        raise NoAnswer(f"several proxies run ({', '.join(str(pid) for pid, _ in running)}); add --pid")
    return running[0]


def _is_alive(path: Path) -> bool:
    """Whether somebody listens; what a dead process left behind is removed."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with suppress(OSError):
                path.unlink()
            return False
        except TimeoutError:
            return True  # it has stopped, and the question will say so
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
    except TimeoutError:
        raise NoAnswer(f"the proxy at {path} did not answer within {PATIENCE:.0f} s") from None
    except (OSError, ValueError) as error:
        raise NoAnswer(f"the proxy at {path} did not answer ({type(error).__name__})") from error
    if not isinstance(answer, dict) or not answer.keys() & {"error", "result"}:
        raise NoAnswer(f"what answers at {path} is no proxy")
    if "error" in answer:
        raise NoAnswer(str(answer["error"]))
    return answer["result"]


def _print_status(pid: int, answer: Mapping[str, Any]) -> None:
    for name, value in answer.items():
        if name != "decisions":
            print(f"{name.replace('_', ' ') + ':':17}{duration(value) if name == 'uptime' else _shown(value)}")
    for row in answer["decisions"]:
        # What is allowed has no reason of its own.
        reason = "" if row["reason"] == row["decision"] else f" {row['reason']}"
        print(f"  {row['count']:>8} {row['decision']:5}{reason} ({row['protocol']})")


def _shown(value: object) -> object:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case _:
            return value


def duration(seconds: int) -> str:
    """In the two largest units: `59 s`, `2 min 5 s`, `3 h 0 min`, `4 d 12 h`."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def _print_blocked(pid: int, answer: Sequence[Mapping[str, Any]]) -> None:
    if not answer:
        print(f"proxy {pid} has blocked nothing", file=sys.stderr)
    for entry in answer:
        when = datetime.fromtimestamp(entry["timestamp"], UTC)
        target = f"{entry['host']}:{entry['port']}" if entry.get("port") else entry["host"]  # sockets have port 0
        method = f" {entry['method']}" if entry.get("method") else ""
        print(f"{when:%Y-%m-%d %H:%M:%S}Z {target}{method} {entry['reason']} ({entry['protocol']})")
