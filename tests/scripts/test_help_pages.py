"""`--help` as a person reads it: within 80 columns, plain, one line on each command."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from codex_network_proxy.scripts.cli import command_parser
from codex_network_proxy.scripts.help_pages import EXAMPLES, EXIT_CODES, Parser
from codex_network_proxy.scripts.outline import outline
from tests.kit.clients import run
from tests.kit.process import REPO, Process, clean_environment, python

COMMANDS = outline(command_parser())
PAGES = [[], *([command.name] for command in COMMANDS)]
WIDTH = 80


def page(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    with pytest.raises(SystemExit) as ended:
        command_parser().parse_args([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_no_line_is_wider_than_a_terminal(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = page(words, monkeypatch, capsys).splitlines()
    assert [line for line in lines if len(line) > WIDTH] == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_has_its_line_on_both_pages(
    command: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (name, line) = next((one.name, one.help) for one in COMMANDS if one is command)
    first = " ".join(page([], monkeypatch, capsys).split())
    assert f" {name} {line} " in first
    assert f"\n{line[0].upper()}{line[1:]}.\n" in page([name], monkeypatch, capsys)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_and_argument_says_what_it_is_for(command: object) -> None:
    (found,) = (one for one in COMMANDS if one is command)
    assert [option.flags for option in found.options if not option.help] == []
    assert [one.value.name for one in found.positionals if not one.help] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_shown_and_are_commands_that_exist(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page([name], monkeypatch, capsys)
    assert all(f"  {line}\n" in text for line in EXAMPLES[name])


@pytest.mark.parametrize(
    "line", [line for lines in EXAMPLES.values() for line in lines if line.startswith("codex-proxy ")]
)
def test_examples_are_understood(line: str) -> None:
    words = line.partition("#")[0].partition("|")[0].split()[1:]
    command_parser().parse_args(words if not words[0].startswith("-") else ["serve", *words])


def test_the_first_page_ends_with_the_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = page([], monkeypatch, capsys).splitlines()[-len(EXIT_CODES) :]
    assert lines == [f"  {code}  {meaning}" for code, meaning in EXIT_CODES.items()]


def test_a_page_of_another_parser_is_plain_as_well() -> None:
    """Python 3.14 looks at this; the versions before have no colours."""
    parser = Parser()
    part = parser.add_subparsers().add_parser("part", help="of it")
    assert (vars(parser)["color"], vars(part)["color"]) == (False, False)


def on_a_terminal(folder: Path, *words: str, **more: str) -> str:
    """What the program says when standard output is a terminal."""
    ours, theirs = pty.openpty()
    environment = clean_environment(folder, TERM="xterm-256color", **more)
    command = ["sh", "-c", f'exec "$@" > {os.ttyname(theirs)}', "sh", *python(REPO / "scripts" / "launch.py", *words)]
    with Process(command, environment, folder) as process:
        process.ended()
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        return os.read(terminal.fileno(), 1 << 16).decode()


@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}], ids=str)
def test_help_is_the_same_on_a_terminal_and_in_a_pipe(more: dict[str, str], tmp_path: Path) -> None:
    piped = run(python(REPO / "scripts" / "launch.py", "mode", "--help"), tmp_path, more)
    assert piped.out.startswith("usage: codex-proxy mode [-h]")
    assert "\x1b" not in piped.out
    assert on_a_terminal(tmp_path, "mode", "--help", **more).replace("\r\n", "\n") == piped.out
