"""`codex-proxy learn` and `replay`: what an audit log says about a list of allowed hosts, present or planned."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from codex_network_proxy.addons.config_file import find_config, read
from codex_network_proxy.addons.log_file import KEEP
from codex_network_proxy.addons.runtime import AUDIT_LOG
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.history import History, read_history
from codex_network_proxy.policy.learning import Lesson, Seen, learn, shadowed, unused
from codex_network_proxy.policy.replaying import Change, Replayed, replay
from codex_network_proxy.policy.settings import NetworkSettings
from codex_network_proxy.policy.text import numbered

from .config_commands import report

SHOWN = 50
"""Changed targets that `replay` prints; the rest is counted."""


def learn_command(options: argparse.Namespace) -> int:
    """Prints the tightest allowlist for what the log has seen, ready to paste. 0, or 1 for what cannot be read."""
    try:
        source = find_config(os.environ, options.config, options.profile)
        settings = read(source).settings
        history = _read_log(options.log or source.home / AUDIT_LOG)
    except ConfigError as error:
        return report(error)
    except OSError as error:
        return _unreadable(error)
    _print_lesson(history, learn(history, settings.allowed))
    return 0


def replay_command(options: argparse.Namespace) -> int:
    """Prints which requests of the log another configuration would change. 0 when there are none, else 3."""
    try:
        settings = read(find_config(os.environ, options.config, options.profile)).settings
        history = _read_log(options.audit)
    except ConfigError as error:
        return report(error)
    except OSError as error:
        return _unreadable(error)
    replayed = asyncio.run(replay(history, NetworkPolicy.compile(settings)))
    _print_replayed(history, replayed)
    _print_idle(history, settings)
    return 3 if any(one.change in (Change.NOW_ALLOWED, Change.NOW_BLOCKED) for one in replayed) else 0


def _read_log(path: Path) -> History:
    """The log and what was rotated away from it, the oldest first. Raises `OSError` when there is none at all."""
    older = (path.with_name(f"{path.name}.{number}") for number in range(KEEP, 0, -1))
    return read_history(_lines([*(one for one in older if one.exists()), path]))


def _lines(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                yield from file
        except OSError as error:
            error.filename = str(path)  # missing where the file opens and cannot be read
            raise


def _unreadable(error: OSError) -> int:
    print(f"cannot read {error.filename}: {error.strerror}", file=sys.stderr)
    return 1


def _print_lesson(history: History, lesson: Lesson) -> None:
    print(f"# {_counted(history)}")
    print("allowed_domains = [")
    for name, targets in lesson.groups:
        print(f"    # {name}")
        for one in targets:
            print(f'    "{one.target}",  # {_seen(one)}')
    print("]")
    if lesson.left_out:
        print("# Left out, because another rule refused them:")
    for one in lesson.left_out:
        print(f"#   {one.target}  {one.reason}, {_times(one.blocked)}")
    for pattern in lesson.unused:
        print(f"# unused: {pattern} let nothing through")
    for pattern, other in lesson.shadowed:
        print(f"# shadowed: {pattern} adds nothing to {other}")


def _print_replayed(history: History, replayed: tuple[Replayed, ...]) -> None:
    print(_counted(history))
    for change in (Change.NOW_BLOCKED, Change.NOW_ALLOWED, Change.UNKNOWN):
        rows = Counter(_row(one) for one in replayed if one.change is change)
        print(f"{change}: {sum(rows.values())}")
        for row, count in rows.most_common(SHOWN):
            print(f"  {row}, {_times(count)}")
        if len(rows) > SHOWN:
            print(f"  and {len(rows) - SHOWN} more")


def _print_idle(history: History, settings: NetworkSettings) -> None:
    for pattern in unused(history, settings.allowed):
        print(f"unused: {pattern} would let none of them through")
    for pattern, other in shadowed(settings.allowed):
        print(f"shadowed: {pattern} adds nothing to {other}")


def _counted(history: History) -> str:
    requests = history.requests
    days = dict.fromkeys((requests[0].time[:10], requests[-1].time[:10])) if requests else {}
    when = f", {' to '.join(days)}" if days else ""
    unread = f"; {numbered(history.unread, 'line')} could not be read" if history.unread else ""
    return f"{numbered(len(requests), 'request') if requests else 'no requests'}{when}{unread}"


def _row(one: Replayed) -> str:
    request = one.request
    method = f" {request.method}" if request.method else ""
    why = f" ({one.why})" if one.why else ""
    return f"{request.target} {request.protocol}{method}{why}"


def _seen(one: Seen) -> str:
    methods = f"; {' '.join(sorted(one.methods))}" if one.methods else ""
    counts = (("allowed", one.allowed), ("blocked", one.blocked))
    seen = ", ".join(f"{what} {_times(count)}" for what, count in counts if count)
    return f"{seen}{methods}; last {one.last[:10]}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
