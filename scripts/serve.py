"""`codex-proxy serve`: loads the configuration, opens the doors, runs until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from codex_network_proxy.addons.ask_terminal import Terminal
from codex_network_proxy.addons.asking import ANSWER_LIMIT, Asking
from codex_network_proxy.addons.runtime import RunOptions, Runtime
from codex_network_proxy.policy.errors import ConfigError

from .config_commands import report

logger = logging.getLogger("codex_network_proxy")

STOPPING = (signal.SIGINT, signal.SIGTERM)

SHUTDOWN_LIMIT = 1.0
"""Seconds that connections get to end after the signal to stop."""


def serve(options: argparse.Namespace) -> int:
    """Runs the proxy until SIGTERM or Ctrl-C. 1 when the configuration or an address is not usable."""
    _set_up_logging(options.verbose)
    asking = Asking() if options.ask else None
    if asking and not (options.web or _has_terminal()):
        print("--ask needs somebody to answer: run it in a terminal, or with --web", file=sys.stderr)
        return 2
    try:
        runtime = Runtime(_run_options(options), decider=asking, decider_timeout=ANSWER_LIMIT + 5)
    except ConfigError as error:
        return report(error)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        _forget_last_run(options.ready_file)
        runtime.warn()
        if not runtime.settings.enabled:
            logger.warning("network.enabled is false; skipping proxy listeners")
            return 0
        return asyncio.run(_run(runtime, options, asking))
    except OSError as error:
        if error is not runtime.failure:  # that one has been logged
            print(error.strerror or error, file=sys.stderr)
        return 1
    finally:
        runtime.close()


def _run_options(options: argparse.Namespace) -> RunOptions:
    return RunOptions(
        config=options.config,
        profile=options.profile,
        audit_log=options.audit_log,
        pins=tuple(options.resolve),
        fast_path=not options.no_fast_path,
        fail_closed_audit=options.fail_closed_audit,
    )


async def _run(runtime: Runtime, options: argparse.Namespace, asking: Asking | None) -> int:
    stop = asyncio.Event()
    for number in STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Loading the engine takes most of the start; nothing before it needs it.
    from codex_network_proxy.addons.master import start_engine

    if asking:
        _reach_people(asking, options)
    engine = await start_engine(runtime, web_port=_web_port(options))
    try:
        for line in engine.listeners():
            print(line, flush=True)
        if options.ready_file:
            write_ready_file(options.ready_file, {"pid": os.getpid(), **engine.addresses()})
        await stop.wait()
    finally:
        if asking:
            asking.close()
        await engine.stop(SHUTDOWN_LIMIT)
        _go_on_ending()
    return 0


def _go_on_ending() -> None:
    """Another Ctrl-C changes nothing any more. The loop would take its handlers along, and then it were a failure."""
    for number in STOPPING:
        while signal.getsignal(number) is not signal.SIG_IGN:
            with suppress(KeyboardInterrupt):  # one that comes in between the two
                asyncio.get_running_loop().remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)


def _reach_people(asking: Asking, options: argparse.Namespace) -> None:
    """Puts questions in the terminal, and in mitmweb."""
    if options.web:
        from codex_network_proxy.addons.ask_web import WebQuestions

        asking.add(WebQuestions())
    if _has_terminal():
        terminal = Terminal(sys.stdin.fileno(), lambda text: print(text, end="", flush=True))
        terminal.start()
        asking.add(terminal)


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _web_port(options: argparse.Namespace) -> int | None:
    from codex_network_proxy.addons.engine_options import WEB_PORT

    if not options.web:
        return None
    return WEB_PORT if options.web_port is None else int(options.web_port)


def _forget_last_run(ready_file: Path | None) -> None:
    """Who waits for the file must not find the one of an earlier process."""
    if ready_file:
        with _naming(ready_file):
            ready_file.unlink(missing_ok=True)


def write_ready_file(path: Path, content: dict[str, object]) -> None:
    """Writes the file in one step: who reads it never sees half of it. Raises `OSError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _naming(path):
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
        temporary.replace(path)


@contextmanager
def _naming(ready_file: Path) -> Iterator[None]:
    """A failure is told with the file that was asked for, not the temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"--ready-file {ready_file} cannot be written: {error.strerror}") from error


def _set_up_logging(verbose: bool) -> None:
    # The engine's own records name hosts and paths of every connection; only its warnings are of use here.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
