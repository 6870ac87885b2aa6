"""The API page is what the code says, and the code says something of everything that is public."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module

import pytest

import codex_network_proxy
from codex_network_proxy.scripts.api_docs import TESTING, document, public_members, text_of
from tests.kit.process import REPO

PAGE = REPO / "docs" / "api.md"
FACE = REPO / "codex_network_proxy" / "__init__.py"


def public() -> Iterator[tuple[str, object]]:
    """Every name that can be imported, and every public member of the classes among them."""
    for module in (codex_network_proxy, import_module(TESTING)):
        for name in module.__all__:
            value = getattr(module, name)
            yield name, value
            if isinstance(value, type):
                yield from ((f"{name}.{member}", of) for member, of in public_members(value))


NAMES = dict(public())


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == document(), "run scripts/docs"


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_on_the_page_and_says_what_it_is(name: str) -> None:
    headings = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("#")]
    called = name.removesuffix(".__init__")
    assert any(f"{called}(" in line or f"{called} " in line or line.endswith(f" {called}") for line in headings)
    assert text_of(NAMES[name]) or name.endswith(".__init__")


def test_type_checkers_see_the_names_that_are_loaded_when_they_are_used() -> None:
    tree = ast.parse(FACE.read_text("utf-8"))
    seen = {
        alias.name: f"{node.module}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == codex_network_proxy._HOMES
    assert sorted(seen) == sorted(codex_network_proxy.__all__)


def test_other_names_are_not_made_up() -> None:
    with pytest.raises(AttributeError, match="no attribute 'NetworkProxi'"):
        _ = codex_network_proxy.NetworkProxi
    assert {"NetworkProxy", "__version__"} <= set(dir(codex_network_proxy))
