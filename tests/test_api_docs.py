"""The API page is what the code says, and the code says something of everything that is public."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import codex_network_proxy
from codex_network_proxy.scripts.api_docs import TESTING, document, public_members, text_of
from codex_network_proxy.testing import ProxyUnderTest
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


BLOCKS = re.findall(r"^```python\n(.*?)^```$", (REPO / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n", 1)[0])
def test_code_in_the_readme_compiles_and_uses_what_there_is(block: str) -> None:
    code = compile(block, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert code
    used = set(re.findall(r"\bproxy\.(\w+)", block)) | set(re.findall(r"\bNetworkProxy\.(\w+)", block))
    assert used <= set(dir(ProxyUnderTest))
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "codex_network_proxy":
            assert {alias.name for alias in node.names} <= set(codex_network_proxy.__all__)


def test_the_example_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, but for the port, and for curl."""
    children: list[Mapping[str, str]] = []

    async def child(*command: str, env: Mapping[str, str]) -> None:
        children.append(env)

    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    text = 'default_permissions = "p"\n[permissions.p.network]\nenabled = true\nsocks_url = "http://127.0.0.1:0"\n'
    (tmp_path / "config.toml").write_text(text)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", child)
    code = next(block for block in BLOCKS if "async def main()" in block).replace(":8080", ":0")
    names: dict[str, Any] = {"asyncio": asyncio}
    exec(code, names)
    asyncio.run(names["main"]())
    assert children[0]["HTTPS_PROXY"].startswith("http://127.0.0.1:")


def test_other_names_are_not_made_up() -> None:
    with pytest.raises(AttributeError, match="no attribute 'NetworkProxi'"):
        _ = codex_network_proxy.NetworkProxi
    assert {"NetworkProxy", "__version__"} <= set(dir(codex_network_proxy))
