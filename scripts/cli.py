"""The `codex-proxy` command: which words it takes, and which module acts on them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from codex_network_proxy import __version__
from codex_network_proxy.policy.decision import NetworkProtocol

from .first_config import PRESETS
from .help_pages import Parser, exit_codes

RUN_USAGE = "codex-proxy run [OPTION]... -- COMMAND [WORD]..."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; what the codes mean is in `EXIT_CODES`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
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


def command_parser() -> argparse.ArgumentParser:
    """Everything the command takes."""
    parser = Parser(
        prog="codex-proxy",
        description="A local network-policy proxy for AI coding agents and CI jobs.",
        epilog=exit_codes(),
    )
    parser.add_argument("--version", action="version", version=f"codex-proxy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the proxy (the default command)")
    _serve_options(serve)
    run = commands.add_parser("run", help="run one command behind a proxy of its own", usage=RUN_USAGE)
    _run_options(run)
    env = commands.add_parser("env", help="print the variables that lead a shell through the running proxy")
    env.add_argument(
        "--shell", choices=["bash", "fish", "json"], help="for which shell ($SHELL; bash is for any other)"
    )
    check = commands.add_parser("check", help="validate the configuration without starting; exit 0 or 1")
    config = commands.add_parser("config", help="show the configuration that would be used")
    config.add_argument("--show", action="store_true", help="the policy in force, and the line of each part")
    init = commands.add_parser("init", help="write a configuration file to start from; never overwrites one")
    init.add_argument(
        "--preset", action="append", default=[], choices=list(PRESETS), help="for this kind of work; repeatable"
    )
    learn = commands.add_parser("learn", help="propose the tightest allowlist for what an audit log has seen")
    learn.add_argument("--from", dest="log", type=Path, metavar="FILE", help="an audit log, instead of the proxy's own")
    replay = commands.add_parser("replay", help="show which past requests another configuration would change")
    replay.add_argument("audit", type=Path, metavar="AUDIT.jsonl", help="the audit log")
    status = commands.add_parser("status", help="show what the running proxies of this user do")
    status.add_argument("--prometheus", action="store_true", help="as the Prometheus text format")
    blocked = commands.add_parser("blocked", help="show the last requests that the running proxies blocked")
    reload = commands.add_parser("reload", help="make the running proxy read its configuration now")
    mode = commands.add_parser("mode", help="narrow the mode of the running proxy until the next reload")
    mode.add_argument("mode", choices=["limited"], help="GET, HEAD and OPTIONS only")
    doctor = commands.add_parser("doctor", help="try out the programs here, and look at what the proxy needs")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    completion = commands.add_parser("completion", help="print a script that lets a shell complete these commands")
    completion.add_argument("shell", choices=["bash", "zsh", "fish"], help="which shell")
    for command in (status, blocked):
        command.add_argument("--json", action="store_true", help="as JSON")
    for command in (env, status, blocked, reload, mode):
        command.add_argument("--pid", type=int, metavar="PID", help="of several proxies, the one with this process id")
    explain = commands.add_parser("explain", help="say why a request is allowed or blocked; exit 0 or 3")
    _explain_options(explain)
    for command in (serve, run, env, check, config, init, learn, replay, explain, doctor):
        command.add_argument("--config", type=Path, metavar="FILE", help="instead of $CODEX_HOME/config.toml")
    for command in (serve, run, env, check, config, learn, replay, explain, doctor):
        command.add_argument("--profile", metavar="NAME", help="the permissions profile, instead of the file's choice")
    for command in (serve, run):
        command.add_argument("--audit-log", type=Path, metavar="FILE", help="audit events as JSON lines")
        _pins(command)
        command.add_argument("-v", "--verbose", action="store_true", help="log allowed requests as well")
    for command, handler in (
        (serve, "serve:serve"),
        (run, "run_command:run"),
        (env, "env_command:env"),
        (check, "config_commands:check"),
        (config, "config_commands:show"),
        (init, "config_commands:init"),
        (learn, "history_commands:learn_command"),
        (replay, "history_commands:replay_command"),
        (status, "control_commands:status"),
        (blocked, "control_commands:blocked"),
        (reload, "control_commands:reload"),
        (mode, "control_commands:mode"),
        (explain, "explain_command:explain_command"),
        (doctor, "doctor:doctor"),
        (completion, "completion:completion"),
    ):
        command.set_defaults(handler=handler)
    return parser


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


def _pins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--resolve", action="append", default=[], metavar="NAME=ADDRESS", help="pin a name instead of looking it up"
    )


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


def _serve_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--fail-closed-audit", action="store_true", help="refuse every request while the audit log cannot be written"
    )
    serve.add_argument("--ready-file", type=Path, metavar="FILE", help="written as JSON when all listeners are up")
    serve.add_argument("--ask", action="store_true", help="ask a person about hosts that are not listed")
    serve.add_argument("--no-fast-path", action="store_true", help="send every tunnel through the engine")
    serve.add_argument("--web", action="store_true", help="show decisions in mitmweb")
    serve.add_argument("--web-port", type=_port, metavar="PORT", help="mitmweb's port (8083)")
