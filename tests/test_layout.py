"""What may know what: the layers, the names that must not clash, and the packages that are used."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mitmproxy.addons import default_addons
from mitmproxy.hooks import all_hooks

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "codex_network_proxy"
FOLDERS = ("addons", "policy", "scripts", "socks", PACKAGE)

# For each folder, the folders of ours that it may import, and the packages of others (None: any that is declared).
LAYERS: list[tuple[str, set[str], set[str] | None]] = [
    ("policy", {"policy"}, {"idna", "pydantic", "pydantic_core", "tomli"}),
    ("socks", {"socks"}, set()),
    ("addons", {"addons", "policy", "socks"}, None),
]
# The policy is given the world as arguments: no files, sockets, clock, environment, chance or threads of its own.
OUTSIDE = {"os", "random", "secrets", "select", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time"}

# Where the name to import is not the name to install.
DISTRIBUTIONS = {"OpenSSL": "pyopenssl", "opentelemetry": "opentelemetry-sdk", "pydantic_core": "pydantic"}
# Files that may name what an extra brings: for types only, or because they are imported only where it is installed.
_USE_OTEL = ("addons/audit_export.py", "addons/auditing.py", "addons/otlp_export.py", "addons/otlp_http.py",
             "addons/proxy_builder.py")  # fmt: skip
EXTRAS = {**dict.fromkeys(_USE_OTEL, "otel"), "codex_network_proxy/testing.py": "testing"}


def modules(tree: ast.Module, home: list[str]) -> Iterator[str]:
    """Full names of everything imported, anywhere in the file; `home` is the package that holds it."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                start = home[: len(home) + 1 - node.level] if node.level else []
                # `from package import module` names a module as well.
                yield from (".".join([*start, *filter(None, [node.module]), alias.name]) for alias in node.names)


def imports(folder: str) -> Iterator[tuple[str, str]]:
    """(file, module) for every import below a folder."""
    home = [PACKAGE] if folder == PACKAGE else [PACKAGE, folder]
    for file in sorted((ROOT / folder).rglob("*.py")):
        yield from ((str(file.relative_to(ROOT)), module) for module in modules(ast.parse(file.read_text()), home))


def ours(module: str) -> str | None:
    """The folder of ours that a module lies in; the version is everybody's."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == PACKAGE and rest != "__version__" else None


def foreign(module: str) -> str | None:
    first = module.partition(".")[0]
    return None if first == PACKAGE or first in sys.stdlib_module_names else first


@pytest.mark.parametrize(("folder", "neighbours", "packages"), LAYERS, ids=[layer[0] for layer in LAYERS])
def test_dependencies_point_one_way(folder: str, neighbours: set[str], packages: set[str] | None) -> None:
    found = list(imports(folder))
    assert found
    assert [(file, module) for file, module in found if ours(module) not in {None, *neighbours}] == []
    if packages is not None:
        assert [(file, module) for file, module in found if foreign(module) not in {None, *packages}] == []


def test_the_policy_reaches_for_nothing_outside() -> None:
    assert [(file, module) for file, module in imports("policy") if module.partition(".")[0] in OUTSIDE] == []


def test_an_import_of_a_neighbour_is_seen_however_it_is_written() -> None:
    """The two tests above stand on this."""
    source = f"""
import {PACKAGE}.addons.guard
from {PACKAGE} import socks
from ..addons import one
from . import two
from .three import four
"""
    found = list(modules(ast.parse(source), [PACKAGE, "policy"]))
    assert [*map(ours, found)] == ["addons", "socks", "addons", "policy", "policy"]
    assert [*map(foreign, ("mitmproxy.http", "os.path", f"{PACKAGE}.socks"))] == ["mitmproxy", None, None]


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement.lower())[0] for requirement in requirements}


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    always = declared(project["dependencies"])
    extras = {file: declared(project["optional-dependencies"][extra]) for file, extra in EXTRAS.items()}
    found = {(file, name) for folder in FOLDERS for file, module in imports(folder) if (name := foreign(module))}
    missing = {
        (file, name) for file, name in found if DISTRIBUTIONS.get(name, name) not in always | extras.get(file, set())
    }
    assert missing == set()


def test_no_file_in_addons_hides_a_module_of_the_standard_library() -> None:
    """mitmproxy puts the folder of a script first on the path."""
    names = {file.stem for file in (ROOT / "addons").glob("*.py")}
    assert names & set(sys.stdlib_module_names) == set()


def test_no_name_in_the_entry_point_is_taken_for_a_hook() -> None:
    tree = ast.parse((ROOT / "addons" / "codex.py").read_text())
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.asname or alias.name for node in imported for alias in node.names}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    default_addons()  # Only after this does mitmproxy know its own events.
    assert {"requestheaders", "server_connect", "next_layer", "error"} <= all_hooks.keys()
    assert "addons" in names
    assert names & set(all_hooks) == set()


def test_the_links_for_type_checkers_are_relative_and_lead_somewhere() -> None:
    links = [path for path in (ROOT / ".typing").rglob("*") if path.is_symlink()]
    assert {link.name for link in links} >= {"__init__.py", "py.typed", *FOLDERS} - {PACKAGE}
    assert [link for link in links if link.readlink().is_absolute() or not link.exists()] == []
