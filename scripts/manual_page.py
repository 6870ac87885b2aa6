"""The manual `docs/codex-proxy.1.md`: every command and option, from the parser itself; `scripts/manual` writes it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from .help_pages import EXAMPLES, EXIT_CODES
from .outline import Command, Option, outline

PAGE = Path("docs", "codex-proxy.1.md")

ENVIRONMENT = {
    "CODEX_HOME": "where configuration, certificate authority and logs are; `~/.codex` when unset",
    "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY": "the way out, in lower case as well, with `allow_upstream_proxy`",
    "SSL_CERT_FILE, SSL_CERT_DIR": "more roots that origins may have certificates from",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "a collector for audit events, with the extra `[otel]`",
}

FILES = {
    "config.toml": "the configuration",
    "log/network-proxy.jsonl": "audit events",
    "proxy/ca.pem, proxy/ca.key": "the certificate authority: what clients must trust, and its key",
    "proxy/ca-bundle.pem": "the certificate with the roots of this machine",
    "proxy/control-PID.sock": "where `status` and its like ask the running proxy",
}
"""Below CODEX_HOME."""

SIGNALS = {"SIGHUP": "reads the configuration again", "SIGTERM, SIGINT": "end the proxy"}


def write(root: str) -> None:
    """Puts the manual into the checkout at `root`."""
    from .cli import command_parser

    Path(root, PAGE).write_text(manual(command_parser()), encoding="utf-8")


def manual(parser: argparse.ArgumentParser) -> str:
    """The whole page."""
    return "".join(f"{line}\n" for line in _page(parser))


def _page(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from ("# codex-proxy(1)", "", "## Name", "", f"codex-proxy - {_lower(parser.description or '')}", "")
    yield from ("## Synopsis", "", "`codex-proxy [COMMAND] [OPTION]... [ARGUMENT]...`", "")
    yield from ("`serve` is the default command. Every command has `-h`, `--help`; `--version` prints the version.", "")
    yield from ("## Commands", "")
    for command in outline(parser):
        yield from _command(command)
    yield from ("## Exit codes", "", *_list(EXIT_CODES), "## Environment", "", *_list(ENVIRONMENT))
    yield from ("## Files", "", "Below `CODEX_HOME`:", "", *_list(FILES), "## Signals", "", *_list(SIGNALS))
    yield from ("## See also", "", "[README](../README.md): patterns, hooks, what every answer means, security notes.")


def _command(command: Command) -> Iterator[str]:
    words = [command.name, *(positional.value.name for positional in command.positionals)]
    yield from (f"### {' '.join(words)}", "", f"{command.help[:1].upper()}{command.help[1:]}.", "")
    rows = {positional.value.name: positional.help for positional in command.positionals}
    rows |= {_spelled(option): _described(option) for option in command.options if "--help" not in option.flags}
    yield from _list(rows)
    if examples := EXAMPLES.get(command.name):
        yield from ("```sh", *examples, "```", "")


def _spelled(option: Option) -> str:
    value = f" {option.value.name}" if option.value else ""
    return ", ".join(f"{flag}{value}" for flag in option.flags)


def _described(option: Option) -> str:
    return f"{option.help}; repeatable" if option.repeats else option.help


def _list(rows: dict[str, str]) -> Iterator[str]:
    for name, text in rows.items():
        yield f"- `{name}`: {text}"
    if rows:
        yield ""


def _lower(sentence: str) -> str:
    return f"{sentence[:1].lower()}{sentence[1:].removesuffix('.')}"
