"""`codex-proxy completion`: scripts that let a shell complete the command, made from what the parser takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from .outline import Command, Kind, Option, Value, outline

SHELLS = ("bash", "zsh", "fish")


def completion(options: argparse.Namespace) -> int:
    """Prints the script for one shell."""
    from .cli import command_parser

    print(script(options.shell, outline(command_parser())), end="")
    return 0


def script(shell: str, commands: tuple[Command, ...]) -> str:
    """The text for the shell to read; `commands` begin with the default one."""
    lines = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return "".join(f"{line}\n" for line in lines(commands))


# -- bash: 3.2, as macOS has it, knows neither mapfile nor compopt -----------------------------------------------------

BASH = r"""
_codex_proxy() {
    local command=${COMP_WORDS[1]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} i offer
    COMPREPLY=()
    if [[ $word == '=' ]]; then word=; fi
    if [[ $before == '=' ]]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi
    if [[ $command == -* ]]; then command=@DEFAULT@; fi
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == '--' ]]; then
            if ((i + 1 == COMP_CWORD)); then _codex_proxy_reply -c; else _codex_proxy_reply -f; fi
            return
        fi
    done
    if ((COMP_CWORD == 1)) && [[ $word != -* ]]; then command= before=; fi
    case "$command $before" in
@VALUES@
    esac
    case $command in
@OPTIONS@
    esac
    if [[ $word != -* ]]; then
        case $command in
@POSITIONALS@
        esac
    fi
    _codex_proxy_reply -W "$offer"
}
_codex_proxy_reply() {
    local IFS=$'\n'
    COMPREPLY=($(IFS=$' \n' compgen "$@" -- "$word"))
}
complete -o filenames -F _codex_proxy codex-proxy
""".lstrip()


def _bash(commands: tuple[Command, ...]) -> Iterator[str]:
    names = " ".join(command.name for command in commands)
    values, options, positionals = [], [f"'') offer='{names}' ;;"], []
    for command in commands:
        for option in command.options:
            if option.value:
                places = "|".join(f"'{command.name} {flag}'" for flag in option.flags)
                values.append(f"{places}) {_bash_reply(option.value)}; return ;;")
        flags = " ".join(flag for option in command.options for flag in option.flags)
        options.append(f"{command.name}) offer='{flags}' ;;")
        positionals += [f"{command.name}) {_bash_reply(one.value)}; return ;;" for one in command.positionals[:1]]
    text = BASH.replace("@DEFAULT@", commands[0].name)
    for place, lines, depth in (("@VALUES@", values, 8), ("@OPTIONS@", options, 8), ("@POSITIONALS@", positionals, 12)):
        text = text.replace(place, "\n".join(f"{' ' * depth}{line}" for line in lines))
    yield from text.splitlines()


def _bash_reply(value: Value) -> str:
    match value.kind:
        case Kind.FILE:
            return "_codex_proxy_reply -f"
        case Kind.PROGRAM:
            return "_codex_proxy_reply -c"
        case Kind.CHOICE:
            return f"_codex_proxy_reply -W '{' '.join(value.choices)}'"
        case Kind.TEXT:
            return ":"


# -- zsh ---------------------------------------------------------------------------------------------------------------


def _zsh(commands: tuple[Command, ...]) -> Iterator[str]:
    yield from ("#compdef codex-proxy", "_codex_proxy() {", "    local -a known=(")
    for command in commands:
        yield f"        {_quoted(f'{command.name}:{command.help}')}"
    yield from (
        "    )",
        "    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then",
        "        _describe -t commands command known",
        "        return",
        "    fi",
        "    local command=$words[2]",
        f"    if [[ $command == -* ]]; then command={commands[0].name}; else shift words; (( CURRENT-- )); fi",
        "    case $command in",
    )
    for command in commands:
        specs = [_zsh_option(option) for option in command.options]
        specs += [
            _quoted(f"{'*:' if one.value.kind is Kind.PROGRAM else ''}{_zsh_value(one.value)}")
            for one in command.positionals
        ]
        yield f"        {command.name}) _arguments {' '.join(specs)} ;;"
    yield from (
        "    esac",
        "}",
        # Found in $fpath it is the function's body; sourced, it must be announced.
        'if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _codex_proxy "$@"; '
        "else compdef _codex_proxy codex-proxy; fi",
    )


def _zsh_option(option: Option) -> str:
    once = "*" if option.repeats else f"({' '.join(option.flags)})"
    what = _escaped(option.help, "[]:")
    value = _zsh_value(option.value) if option.value else ""
    return " ".join(
        _quoted(f"{once}{flag}{'=' if value and flag.startswith('--') else ''}[{what}]{value}") for flag in option.flags
    )


def _zsh_value(value: Value) -> str:
    return f":{_escaped(value.name, ':')}:{_zsh_action(value)}"


def _zsh_action(value: Value) -> str:
    match value.kind:
        case Kind.FILE:
            return "_files"
        case Kind.PROGRAM:
            return "_normal"
        case Kind.CHOICE:
            return f"({' '.join(value.choices)})"
        case Kind.TEXT:
            return " "


# -- fish --------------------------------------------------------------------------------------------------------------


def _fish(commands: tuple[Command, ...]) -> Iterator[str]:
    yield "complete -c codex-proxy -f"
    for command in commands:
        yield f"complete -c codex-proxy -n __fish_use_subcommand -a {command.name} -d {_quoted(command.help)}"
    for command in commands:
        start = f"complete -c codex-proxy -n '__fish_seen_subcommand_from {command.name}'"
        for option in command.options:
            yield " ".join([start, *_fish_flags(option.flags), *_fish_value(option.value), "-d", _quoted(option.help)])
        for one in command.positionals:
            yield " ".join([start, *_fish_positional(one.value), "-d", _quoted(one.help)])


def _fish_flags(flags: Iterable[str]) -> Iterator[str]:
    for flag in flags:
        yield f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"


def _fish_value(value: Value | None) -> list[str]:
    if value is None:
        return []
    return ["-r", "-F"] if value.kind is Kind.FILE else ["-x", *_fish_choices(value)]


def _fish_positional(value: Value) -> list[str]:
    match value.kind:
        case Kind.FILE:
            return ["-F"]
        case Kind.PROGRAM:
            return ["-a '(__fish_complete_subcommand)'"]
        case Kind.CHOICE | Kind.TEXT:
            return _fish_choices(value)


def _fish_choices(value: Value) -> list[str]:
    return [f"-a '{' '.join(value.choices)}'"] if value.choices else []


# -- all ---------------------------------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    """For zsh and fish: what stands between single quotes is taken as it is."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _escaped(text: str, special: str) -> str:
    return "".join(f"\\{char}" if char in special else char for char in text)
