"""The `codex-proxy` command: which words it takes, and which module acts on them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from codex_network_proxy import __version__
from codex_network_proxy.policy.decision import NetworkProtocol

from .first_config import PRESETS
from .help_pages import Parser, exit_codes

RUN_USAGE = "codex-proxy run [OPTION]... -- COMMAND [WORD]..."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; what the codes mean is in `EXIT_CODES`.

    Who stops it, or stops reading what it prints, is not bothered with a traceback: 128 and the signal's number.
    """
    try:
        try:
            return _run(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            print(end="", flush=True)  # here, and not where the process ends and could only complain
    except BrokenPipeError:
        # What is left in the buffer must not be tried again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(words: list[str]) -> int:
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words.insert(0, "serve")
    words, command_line = _cut(words)
    parser = command_parser()
    options = parser.parse_args(words)
    if options.command == "run":
        if command_line is not None:
            # Without a command before them the dashes are ours.
            options.command_line += ["--", *command_line] if options.command_line else command_line
        if not options.command_line:
            parser.error("run: name the command, as in codex-proxy run -- curl https://example.com/")
    # Only the module of the command is loaded: `serve` must not wait for the others.
    module, _, function = options.handler.partition(":")
    handler: Callable[[argparse.Namespace], int] = getattr(import_module(f".{module}", __package__), function)
    return handler(options)


def _cut(words: list[str]) -> tuple[list[str], list[str] | None]:
    """The words of `run` up to `--`, and the command that follows it, which is none of our business."""
    if words[0] != "run" or "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


# -- what the command takes ------------------------------------------------------------------------------------------


def command_parser() -> argparse.ArgumentParser:
    """Everything the command takes."""
    parser = Parser(
        prog="codex-proxy",
        description="A local network-policy proxy for AI coding agents and CI jobs.",
        epilog=exit_codes(),
    )
    parser.add_argument("--version", action="version", version=f"codex-proxy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        words = commands.add_parser(name, help=command.help, usage=RUN_USAGE if name == "run" else None)
        for options in command.options:
            options(words)
        words.set_defaults(handler=command.handler)
    return parser


Options = Callable[[argparse.ArgumentParser], None]
"""Adds the options of one subject to a command."""


def _serve_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--fail-closed-audit", action="store_true", help="refuse every request while the audit log cannot be written"
    )
    serve.add_argument("--ready-file", type=Path, metavar="FILE", help="written as JSON when all listeners are up")
    serve.add_argument("--ask", action="store_true", help="ask a person about hosts that are not listed")
    serve.add_argument("--no-fast-path", action="store_true", help="send every tunnel through the engine")
    serve.add_argument("--web", action="store_true", help="show decisions in mitmweb")
    serve.add_argument("--web-port", type=_port, metavar="PORT", help="mitmweb's port (8083)")


def _port(text: str) -> int:
    """A port that is known beforehand: mitmweb's is one that the proxy never dials."""
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not a port; write one from 1 to 65535")
    return port


def _run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--allow", action="append", default=[], metavar="PATTERN", help="one more entry of allowed_domains"
    )
    run.add_argument("--mode", choices=["limited"], help="GET, HEAD and OPTIONS only; HTTPS is read for that")
    run.add_argument(
        "--enforce", action="store_true", help="give the command a network without any other way out (Linux)"
    )
    run.add_argument("command_line", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its words")


def _proxy_options(command: argparse.ArgumentParser) -> None:
    """Of whoever starts a proxy."""
    command.add_argument("--audit-log", type=Path, metavar="FILE", help="audit events as JSON lines")
    _pins(command)
    command.add_argument("-v", "--verbose", action="store_true", help="log allowed requests as well")


def _pins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--resolve", action="append", default=[], metavar="NAME=ADDRESS", help="pin a name instead of looking it up"
    )


def _explain_options(explain: argparse.ArgumentParser) -> None:
    explain.add_argument("target", metavar="URL|HOST[:PORT]", help="what a program would ask for")
    explain.add_argument("--method", metavar="M", help="the method of the request (GET for a URL)")
    explain.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="a header of the request")
    explain.add_argument(
        "--protocol",
        choices=[one.value for one in NetworkProtocol],
        metavar="DOOR",
        help="instead of the URL's own: http, https_connect, socks5_tcp or socks5_udp",
    )
    _pins(explain)
    explain.add_argument("--json", action="store_true", help="print JSON")


def _config(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="instead of $CODEX_HOME/config.toml")


def _profile(command: argparse.ArgumentParser) -> None:
    command.add_argument("--profile", metavar="NAME", help="the permissions profile, instead of the file's choice")


def _pid(command: argparse.ArgumentParser) -> None:
    command.add_argument("--pid", type=int, metavar="PID", help="of several proxies, the one with this process id")


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="as JSON")


def _shell_to_speak(env: argparse.ArgumentParser) -> None:
    env.add_argument(
        "--shell", choices=["bash", "fish", "json"], help="for which shell ($SHELL; bash is for any other)"
    )


def _shell_to_complete(completion: argparse.ArgumentParser) -> None:
    completion.add_argument("shell", choices=["bash", "zsh", "fish"], help="which shell")


def _show(config: argparse.ArgumentParser) -> None:
    config.add_argument("--show", action="store_true", help="the policy in force, and the line of each part")


def _presets(init: argparse.ArgumentParser) -> None:
    init.add_argument(
        "--preset", action="append", default=[], choices=list(PRESETS), help="for this kind of work; repeatable"
    )


def _log_to_learn_from(learn: argparse.ArgumentParser) -> None:
    learn.add_argument("--from", dest="log", type=Path, metavar="FILE", help="an audit log, instead of the proxy's own")


def _log_to_replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument("audit", type=Path, metavar="AUDIT.jsonl", help="the audit log")


def _prometheus(status: argparse.ArgumentParser) -> None:
    status.add_argument("--prometheus", action="store_true", help="as the Prometheus text format")


def _narrower_mode(mode: argparse.ArgumentParser) -> None:
    mode.add_argument("mode", choices=["limited"], help="GET, HEAD and OPTIONS only")


@dataclass(frozen=True, slots=True)
class Command:
    """What it is for, `module:function` that acts on it, and what may follow it, in the order of its page."""

    help: str
    handler: str
    options: tuple[Options, ...]


COMMANDS = {
    "serve": Command(
        "run the proxy (the default command)", "serve:serve", (_serve_options, _config, _profile, _proxy_options)
    ),
    "run": Command(
        "run one command behind a proxy of its own",
        "run_command:run",
        (_run_options, _config, _profile, _proxy_options),
    ),
    "env": Command(
        "print the variables that lead a shell through the running proxy",
        "env_command:env",
        (_shell_to_speak, _pid, _config, _profile),
    ),
    "check": Command(
        "validate the configuration without starting; exit 0 or 1", "config_commands:check", (_config, _profile)
    ),
    "config": Command("show the configuration that would be used", "config_commands:show", (_show, _config, _profile)),
    "init": Command(
        "write a configuration file to start from; never overwrites one", "config_commands:init", (_presets, _config)
    ),
    "learn": Command(
        "propose the tightest allowlist for what an audit log has seen",
        "history_commands:learn_command",
        (_log_to_learn_from, _config, _profile),
    ),
    "replay": Command(
        "show which past requests another configuration would change",
        "history_commands:replay_command",
        (_log_to_replay, _config, _profile),
    ),
    "status": Command(
        "show what the running proxies of this user do", "control_commands:status", (_prometheus, _json, _pid)
    ),
    "blocked": Command(
        "show the last requests that the running proxies blocked", "control_commands:blocked", (_json, _pid)
    ),
    "reload": Command("make the running proxy read its configuration now", "control_commands:reload", (_pid,)),
    "mode": Command(
        "narrow the mode of the running proxy until the next reload", "control_commands:mode", (_narrower_mode, _pid)
    ),
    "doctor": Command(
        "try out the programs here, and look at what the proxy needs", "doctor:doctor", (_json, _config, _profile)
    ),
    "completion": Command(
        "print a script that lets a shell complete these commands", "completion:completion", (_shell_to_complete,)
    ),
    "explain": Command(
        "say why a request is allowed or blocked; exit 0 or 3",
        "explain_command:explain_command",
        (_explain_options, _config, _profile),
    ),
}
"""In the order in which `--help` lists them."""
