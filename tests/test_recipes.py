"""Every command in the README is one that a test runs, or it is known why not; and every example is whole."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.kit import recipes as kit
from tests.kit.process import REPO
from tests.kit.recipes import TESTED, UNTESTED, Block, readme, recipes

BLOCKS = readme()[0]


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((REPO / "tests" / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_command_of_the_readme_is_run_by_a_test_or_it_is_said_why_not() -> None:
    assert set(recipes()) == TESTED.keys() | UNTESTED.keys()
    assert not TESTED.keys() & UNTESTED.keys()
    assert all(UNTESTED.values())


@pytest.mark.parametrize("where", sorted(set(TESTED.values())))
def test_the_tests_that_are_named_exist(where: str) -> None:
    file, _, name = where.partition("::")
    assert name in names_in(file)


NAMES = {value: name for name, value in vars(kit).items() if isinstance(value, str) and value in TESTED}
"""The commands that tests ask for by a name."""


@pytest.mark.parametrize("command", [command for command in NAMES if command != kit.START])
def test_a_test_that_is_named_uses_the_command_as_it_stands_in_the_readme(command: str) -> None:
    tree = ast.parse((REPO / "tests" / TESTED[command].partition("::")[0]).read_text())
    assert NAMES[command] in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=lambda b: b.heading)
def test_every_example_in_python_compiles(block: Block) -> None:
    compile(block.text, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_no_block_has_a_language_that_nobody_looks_at() -> None:
    """Those in toml and json are loaded by tests/test_docs.py. One without a language shows a line of the log."""
    assert {block.language for block in BLOCKS} == {"console", "sh", "toml", "json", "python", ""}
