"""What the shells offer: each script is read by the shell it is for, which is then asked."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import pytest

from codex_network_proxy.scripts.cli import command_parser, main
from codex_network_proxy.scripts.completion import SHELLS, script
from codex_network_proxy.scripts.outline import Command, outline
from tests.kit.clients import need, run

ASK_BASH = """
source "$1"; shift
COMP_WORDS=(codex-proxy "$@"); COMP_CWORD=$#
_codex_proxy
printf '%s\\n' "${COMPREPLY[@]}"
"""
# What zsh's own functions make of it is theirs; here they show what they were called with.
ASK_ZSH = """
compdef() { }
_describe() { print -l -- "${(@)known%%:*}" }
_arguments() { print -l -- "$@" }
source "$1"; shift
words=(codex-proxy "$@"); CURRENT=$#words
_codex_proxy
"""
ASK_FISH = "source $argv[1]; complete -C (string join -- ' ' codex-proxy $argv[2..])"

NAMES = [command.name for command in outline(command_parser())]


def other_commands() -> tuple[Command, ...]:
    """A parser with everything that the real one may come to have."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    commands.add_parser("first", help="it's [a: b]").add_argument("--colour", choices=["red", "blue"], help="one's own")
    behind = commands.add_parser("behind", help="runs a program")
    behind.add_argument("--file", type=Path, help="any")
    behind.add_argument("program", nargs=argparse.REMAINDER, help="it")
    return outline(parser)


def ask(shell: str, folder: Path, *words: str, commands: tuple[Command, ...] | None = None) -> list[str]:
    program = need(shell)
    source = folder / "completion"
    source.write_text(script(shell, commands or outline(command_parser())))
    start = {
        "bash": ["--norc", "--noprofile", "-c", ASK_BASH, "bash"],
        "zsh": ["-f", "-c", ASK_ZSH, "zsh"],
        "fish": ["--no-config", "-c", ASK_FISH],
    }[shell]
    done = run([program, *start, source, *words], folder)
    assert (done.code, done.err) == (0, "")
    return [line.partition("\t")[0] for line in done.out.splitlines() if line]


@pytest.mark.parametrize("shell", SHELLS)
def test_all_commands_are_offered(shell: str, tmp_path: Path) -> None:
    assert sorted(ask(shell, tmp_path, "")) == sorted(NAMES)


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param(["chec"], ["check"], id="half a command"),
        pytest.param(["check", "--pro"], ["--profile"], id="half an option"),
        pytest.param(["mode", ""], ["limited"], id="a choice"),
        pytest.param(["completion", "z"], ["zsh"], id="half a choice"),
        pytest.param(["check", "--config", "some"], ["some file.toml"], id="a file as an option's value"),
        pytest.param(["replay", "some"], ["some file.toml"], id="a file as an argument"),
        pytest.param(["check", "--profile", "some"], [], id="a name that nobody can know"),
    ],
)
def test_a_word_is_completed(shell: str, words: list[str], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "some file.toml").touch()
    assert [word.replace("\\", "") for word in ask(shell, tmp_path, *words)] == offered


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param(["--ready"], ["--ready-file"], id="an option without a command belongs to the default one"),
        pytest.param(["--config", "some"], ["some file.toml"], id="and so does its value"),
        pytest.param(["check", "--config", "=", "some"], ["some file.toml"], id="bash takes --config=some apart"),
        pytest.param(["check", "--config", "="], ["completion", "some file.toml"], id="with nothing behind it yet"),
    ],
)
def test_bash_knows_the_other_ways_to_write_it(words: list[str], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "some file.toml").touch()
    assert sorted(ask("bash", tmp_path, *words)) == offered


@pytest.mark.parametrize("words", [["behind", "file"], ["behind", "--", "file"], ["behind", "--", "env", "--", "file"]])
def test_bash_completes_the_program_behind_a_command(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "file-of-mine").touch()
    (tmp_path / "file-to-run").touch(mode=0o755)
    search = ask("bash", tmp_path, *words, commands=other_commands())
    assert ("file-of-mine" in search) is (words.count("--") == 2)


def test_bash_offers_the_choices_of_an_option(tmp_path: Path) -> None:
    assert ask("bash", tmp_path, "first", "--colour", "", commands=other_commands()) == ["red", "blue"]
    assert ask("fish", tmp_path, "first", "--colour", "", commands=other_commands()) == ["blue", "red"]


def test_zsh_is_told_of_options_and_arguments(tmp_path: Path) -> None:
    told = ask("zsh", tmp_path, "first", "", commands=other_commands())
    assert told[-1] == "(--colour)--colour=[one's own]:red|blue:(red blue)"
    told = ask("zsh", tmp_path, "behind", "", commands=other_commands())
    assert told[-2:] == ["(--file)--file=[any]:FILE:_files", "*::PROGRAM:_normal"]
    assert "(--config)--config=[instead of $CODEX_HOME/config.toml]:FILE:_files" in ask("zsh", tmp_path, "--c")


@pytest.mark.parametrize("shell", SHELLS)
def test_quotes_and_brackets_in_texts_do_no_harm(shell: str, tmp_path: Path) -> None:
    assert "first" in ask(shell, tmp_path, "", commands=other_commands())


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == script(shell, outline(command_parser()))


def test_every_kind_of_shell_reads_the_whole_script(tmp_path: Path) -> None:
    """`-n` parses and runs nothing; sh would accept less."""
    source = tmp_path / "completion"
    source.write_text(script("bash", outline(command_parser())))
    assert subprocess.run([need("bash"), "-n", source], capture_output=True, check=False).stderr == b""
