"""`codex-proxy run -- COMMAND`: a proxy for one command, which lives exactly as long as the command does."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from codex_network_proxy.addons.child_route import live_route, with_java
from codex_network_proxy.addons.command_config import CommandConfig
from codex_network_proxy.addons.config_file import ConfigWatch, find_config
from codex_network_proxy.addons.runtime import RunOptions, Runtime
from codex_network_proxy.policy.child_env import child_env
from codex_network_proxy.policy.config_values import Wrong, pattern_of
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.patterns import DomainPattern

from .fence import FenceFailed, Order, Starter, hint
from .run_report import Blocks, smallest_rule
from .starter import NOT_FENCED

logger = logging.getLogger("codex_network_proxy")

SHUTDOWN_LIMIT = 1.0
"""Seconds that connections get to end after the command."""

PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
FROM_THE_KEYBOARD = frozenset({signal.SIGINT, signal.SIGQUIT})


def run(options: argparse.Namespace) -> int:
    """Runs the command behind a proxy of its own; its exit code, 128 and the signal's number when one ended it.

    125 when the proxy could not be started or the fence does not stand: then the command has not run.
    """
    logging.basicConfig(level=logging.WARNING, format="codex-proxy: %(levelname)s %(message)s")
    logger.setLevel(logging.DEBUG if options.verbose else logging.WARNING)
    try:
        config = _configuration(options)
        runtime = Runtime(RunOptions(audit_log=options.audit_log, pins=tuple(options.resolve)), configuration=config)
    except ConfigError as error:
        return _failed(*error.problems)
    except (OSError, ValueError) as error:
        return _failed(error)
    try:
        if not runtime.settings.enabled:
            return _failed(f"network.enabled is false in {runtime.source.path}; write enabled = true")
        if options.verbose:
            runtime.warn()
        with Starter(enforce=options.enforce) as starter:
            runtime.given = starter.listeners() if options.enforce else None
            return asyncio.run(_run(runtime, config, starter, options.command_line))
    except FenceFailed as error:
        return _failed(error, *([f"--enforce: {hint()}"] if options.enforce else []))
    except OSError as error:
        return _failed(error.strerror or error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        runtime.close()


def _failed(*problems: object) -> int:
    for problem in problems:
        print(f"codex-proxy: {problem}", file=sys.stderr)
    return NOT_FENCED


def _configuration(options: argparse.Namespace) -> CommandConfig:
    file = ConfigWatch(find_config(os.environ, options.config, options.profile))
    allow = tuple(map(_pattern, options.allow))
    limited = options.mode == NetworkMode.LIMITED
    return CommandConfig(file, allow, limited=limited, own_network=options.enforce)


def _pattern(text: str) -> DomainPattern:
    try:
        return pattern_of(text)
    except Wrong as error:
        raise ValueError(f"--allow {text}: {error}") from None


async def _run(runtime: Runtime, config: CommandConfig, starter: Starter, command: Sequence[str]) -> int:
    # Loading the engine takes most of the start.
    from codex_network_proxy.addons.master import start_engine

    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    blocks = Blocks(f"canary-{secrets.token_hex(8)}.invalid")
    runtime.authority.on_block(blocks.seen)
    runtime.authority.on_failure(blocks.failed)
    engine = await start_engine(runtime, web_port=None)
    try:
        order = Order(
            command,
            child_env(os.environ, with_java(replace(live_route(runtime), own_network=config.own_network))),
            runtime.http_address or "",
            blocks.canary,
            open_files,
        )
        if await asyncio.to_thread(starter.prove, order) != blocks.canary_id:
            raise FenceFailed("another proxy answered in place of this one")
        with _signals_passed_on(starter):
            starter.let_go()
            code = await asyncio.to_thread(starter.process.wait)
    finally:
        await engine.stop(SHUTDOWN_LIMIT)
    origins = config.origins()
    for line in await blocks.report(lambda one: smallest_rule(one, runtime.settings, origins, limited=config.limited)):
        print(line, file=sys.stderr)
    return code if code >= 0 else 128 - code


# -- signals ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _signals_passed_on(starter: Starter) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in PASSED_ON:
        loop.add_signal_handler(number, _pass_on, starter, number)
    try:
        yield
    finally:
        for number in PASSED_ON:
            loop.remove_signal_handler(number)


def _pass_on(starter: Starter, number: signal.Signals) -> None:
    if not (number in FROM_THE_KEYBOARD and _is_in_foreground()):
        starter.process.send_signal(number)


def _is_in_foreground() -> bool:
    """Whether the terminal itself sends what is typed to every process of ours, so that the command has it already."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
