"""HTTPS that is read, with the README's variables for every tool that it names; and npm, whose scopes look odd."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.clients import Done
from tests.kit.fleet import Fleet
from tests.kit.hooks import API, CANARY, OTHER, Hook, Inject, inspecting
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import ProxyProcess
from tests.kit.recipes import ENV, START, TRUST, VARIABLES, codex_proxy, recipe, rows, script
from tests.kit.tls import TestAuthority
from tests.kit.tools import TOOLS, UNTRIED, tools_origin

POLICY = inspecting(Hook(API, inject=(Inject(),)))
LIMITED = inspecting(mode="limited")
ROWS = rows("Trust the certificate authority")
AS_OPTION = ("wget",)
"""They know no variable for it; the README has the option."""
SCOPED = replace(
    TOOLS["npm"],
    line=TOOLS["npm"].line.replace("kit-demo &&", "@kit/scoped &&").replace("'kit-demo'", "'@kit/scoped'"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: TestAuthority) -> Iterator[HttpOrigin]:
    root = tmp_path_factory.mktemp("repositories")
    with tools_origin(root, authority.server_context(API, OTHER)) as running:
        yield running


def variables(proxy: ProxyProcess) -> str:
    return "\n".join([script(VARIABLES[0], proxy), script(TRUST[0], proxy)])


def by_env(proxy: ProxyProcess) -> str:
    return recipe(ENV, places={START: f"CODEX_HOME={proxy.home} {codex_proxy(proxy.home)}"})


@pytest.mark.parametrize("told", [variables, by_env], ids=["by hand", "by env"])
@pytest.mark.parametrize("name", TOOLS)
def test_what_is_read_is_trusted(
    told: Callable[[ProxyProcess], str],
    name: str,
    inspected: Fleet,
    server: HttpOrigin,
    tmp_path: Path,
) -> None:
    proxy, tool, mark = inspected.get(POLICY), TOOLS[name], server.recorder.mark()
    ca = proxy.ca_bundle if name in AS_OPTION else None
    done = tool.fetch(tmp_path, f"https://{API}:{server.port}", told(proxy), ca)
    assert (done.code, tool.shows in done.out) == (0, True), done
    heads = [head for connection in server.recorder.since(mark) for head in connection.heads]
    assert heads
    assert all(f"\r\nauthorization: Bearer {CANARY}\r\n".encode() in head for head in heads), "it was read"


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_that_is_told_nothing_does_not_trust(
    name: str, inspected: Fleet, server: HttpOrigin, tmp_path: Path
) -> None:
    proxy, mark = inspected.get(POLICY), server.recorder.mark()
    done = TOOLS[name].fetch(tmp_path, f"https://{API}:{server.port}", script(VARIABLES[0], proxy))
    assert TOOLS[name].shows not in done.out, done
    assert not any(connection.heads for connection in server.recorder.since(mark))


# -- npm -------------------------------------------------------------------------------------------------------------


def npm(proxy: ProxyProcess, server: HttpOrigin, host: str, folder: Path) -> Done:
    return SCOPED.fetch(folder, f"https://{host}:{server.port}", variables(proxy))


def test_npm_gets_a_package_of_a_scope_and_what_that_needs(
    inspected: Fleet, fast_path: bool, server: HttpOrigin, tmp_path: Path
) -> None:
    """In limited mode everything is read, and `@kit%2fscoped` is a path as good as another."""
    done = npm(inspected.get(LIMITED, fast_path), server, OTHER, tmp_path)
    assert (done.code, SCOPED.shows in done.out) == (0, True), done
    assert (tmp_path / "node_modules" / "kit-demo").is_dir()
    assert any(b"/npm/@kit%2fscoped " in head for head in server.recorder.heads)


def test_a_hook_matches_no_path_of_a_scope(
    inspected: Fleet, fast_path: bool, server: HttpOrigin, tmp_path: Path
) -> None:
    mark = server.recorder.mark()
    done = npm(inspected.get(POLICY, fast_path), server, API, tmp_path)
    assert (done.code, "blocked-by-mitm-hook" in done.err) == (1, True), done
    assert not any(connection.heads for connection in server.recorder.since(mark))


# -- the table -------------------------------------------------------------------------------------------------------


def named(cell: str) -> set[str]:
    return set(re.split(r", ", cell.replace("Python ", "")))


def test_the_variables_of_the_table_are_the_ones_that_are_tried() -> None:
    """Java's store and `ssl`, which is what urllib uses, are tried by tests/addons/test_ca_clients.py."""
    rest = {"Java", "ssl"} | UNTRIED.keys()
    for cell, codes in ROWS.items():
        for name in named(cell) - rest:
            tool = TOOLS[name]
            assert set(tool.trust) <= set(codes), name
            assert tool.option.partition("=")[0] in {"", *codes}, name
    assert {name for cell in ROWS for name in named(cell)} - rest == TOOLS.keys()
