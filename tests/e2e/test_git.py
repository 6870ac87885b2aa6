"""git over HTTP: clone, fetch and push through the proxy, and a refusal that says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.clients import Done, need, proxy_environment, run
from tests.kit.fleet import Fleet
from tests.kit.git_origin import git_backend, make_repository
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpOrigin]:
    need("git")
    root = tmp_path_factory.mktemp("git")
    make_repository(root)
    with HttpOrigin("git", {"git": git_backend(root)}) as running:
        yield running


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


def git(proxy: ProxyProcess, folder: Path, *arguments: str) -> Done:
    settings = ["-c", "user.name=Test", "-c", "user.email=test@client.test"]
    environment = proxy_environment(proxy) | {"GIT_TERMINAL_PROMPT": "0"}
    return run([need("git"), *settings, *arguments], folder, environment)


def test_clone_and_push(proxy: ProxyProcess, server: HttpOrigin, tmp_path: Path) -> None:
    done = git(proxy, tmp_path, "clone", f"http://allowed.test:{server.port}/git/demo.git", "copy")
    assert done.code == 0, done
    copy = tmp_path / "copy"
    assert (copy / "hello.txt").read_text() == "hello from the origin\n"
    (copy / "big.bin").write_bytes(bytes(range(256)) * 8000)
    branch = f"topic-{tmp_path.name}"
    for arguments in (
        ["checkout", "-b", branch],
        ["add", "big.bin"],
        ["commit", "-m", "more"],
        ["push", "origin", branch],
    ):
        done = git(proxy, copy, *arguments)
        assert done.code == 0, done
    assert branch in git(proxy, copy, "ls-remote", "origin").out


def test_a_blocked_clone_shows_the_status(proxy: ProxyProcess, server: HttpOrigin, tmp_path: Path) -> None:
    mark = server.recorder.mark()
    done = git(proxy, tmp_path, "clone", f"http://evil.test:{server.port}/git/demo.git")
    assert done.code == 128
    assert "The requested URL returned error: 403" in done.err
    done = git(proxy, tmp_path, "clone", f"https://evil.test:{server.port}/git/demo.git")
    assert "CONNECT tunnel failed, response 403" in done.err
    assert not server.recorder.since(mark)
