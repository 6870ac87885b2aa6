"""How `--help` reads: the same on a terminal and in a pipe, with an example where one says more than the options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:  # no generic class at run time
    Commands = argparse._SubParsersAction

EXIT_CODES = {
    "0": "it did what was asked",
    "1": "it could not, or what it looked at is not in order; the text says why",
    "2": "wrong usage",
    "3": "`explain`: the request is blocked; `replay`: something would change",
    "125": "`run`: there is no proxy, or it did not refuse; the command has not run",
    "126": "`run`: the command cannot be executed",
    "127": "`run`: there is no such command; any other code is the command's own",
}
"""What a script may rely on."""

EXAMPLES = {
    "serve": ("codex-proxy serve --profile ci --audit-log audit.jsonl", "codex-proxy --resolve api.test=127.0.0.1 -v"),
    "run": (
        "codex-proxy run --allow pypi.org -- pip download requests",
        "codex-proxy run --enforce --mode limited -- npm audit",
    ),
    "env": (
        'eval "$(codex-proxy env)"                            # bash, zsh',
        "codex-proxy env | source                               # fish",
    ),
    "check": ("codex-proxy check --config new.toml",),
    "init": ("codex-proxy init --preset python --preset github-read",),
    "learn": ("codex-proxy learn --from audit.jsonl",),
    "replay": ("codex-proxy replay audit.jsonl --config new.toml",),
    "explain": (
        "codex-proxy explain https://pypi.org/simple/",
        "codex-proxy explain api.test:22 --protocol socks5_tcp",
    ),
    "status": ("codex-proxy status --json",),
    "doctor": ("codex-proxy doctor --json",),
    "completion": (
        "source <(codex-proxy completion bash)                  # in ~/.bashrc",
        "source <(codex-proxy completion zsh)                   # in ~/.zshrc",
        "codex-proxy completion fish | source                   # in config.fish",
    ),
}
"""Lines that are worth a copy, by command."""


class Parser(argparse.ArgumentParser):
    """Plain text: since Python 3.14 argparse paints on its own, on standard error by what standard output is."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **settings})
        self.color = False
        self.register("action", "parsers", _Commands)


class _Commands(Commands):
    """Each command's own page begins with the line that the list of commands has for it."""

    def add_parser(self, name: str, **settings: Any) -> argparse.ArgumentParser:
        line = settings["help"]
        page = {"description": f"{line[:1].upper()}{line[1:]}.", "epilog": _examples(name)}
        return super().add_parser(name, **{**page, **settings})


def exit_codes() -> str:
    """The end of the first page."""
    return "exit codes:\n" + "\n".join(f"  {code}  {meaning}" for code, meaning in EXIT_CODES.items())


def _examples(name: str) -> str | None:
    lines = EXAMPLES.get(name, ())
    return "\n".join(["for example:", *(f"  {line}" for line in lines)]) if lines else None
