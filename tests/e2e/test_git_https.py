"""git over HTTPS: hooks let it clone and fetch, with a password it does not know, and let nothing be pushed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.clients import Done, need, proxy_environment, run
from tests.kit.fleet import Fleet
from tests.kit.git_origin import git_backend, make_repository
from tests.kit.hooks import CANARY, Hook, Inject, inspecting
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import ProxyProcess
from tests.kit.tls import TestAuthority

HOST = "git.allowed.test"
TOKEN = (Inject(prefix="Basic "),)
POLICY = inspecting(
    Hook(HOST, ("GET",), ("/git/demo.git/info/refs",), query=(("service", ("git-upload-pack",)),), inject=TOKEN),
    Hook(HOST, ("POST",), ("pattern:/git/demo.git/git-upload-pack",), inject=TOKEN),
)
BLOCKED = "The requested URL returned error: 403"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: TestAuthority) -> Iterator[HttpOrigin]:
    need("git")
    root = tmp_path_factory.mktemp("git-https")
    make_repository(root)
    with HttpOrigin("git", {"git": git_backend(root)}, tls=authority.server_context(HOST)) as running:
        yield running


@pytest.fixture
def proxy(inspected: Fleet, fast_path: bool) -> ProxyProcess:
    return inspected.get(POLICY, fast_path)


def git(proxy: ProxyProcess, folder: Path, *arguments: str, version: str = "HTTP/2", trusting: bool = True) -> Done:
    settings = ["-c", "user.name=Test", "-c", "user.email=test@client.test", "-c", f"http.version={version}"]
    environment = proxy_environment(proxy) | {"GIT_TERMINAL_PROMPT": "0"}
    if trusting:
        environment["GIT_SSL_CAINFO"] = str(proxy.ca_bundle)
    return run([need("git"), *settings, *arguments], folder, environment)


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_fetch_is_allowed_and_push_is_not(
    version: str, proxy: ProxyProcess, server: HttpOrigin, tmp_path: Path
) -> None:
    mark = server.recorder.mark()
    done = git(proxy, tmp_path, "clone", f"https://{HOST}:{server.port}/git/demo.git", "copy", version=version)
    assert done.code == 0, done
    copy = tmp_path / "copy"
    assert (copy / "hello.txt").read_text() == "hello from the origin\n"
    assert git(proxy, copy, "fetch", "origin", version=version).code == 0
    git(proxy, copy, "commit", "--allow-empty", "-m", "mine")
    pushed = git(proxy, copy, "push", "origin", "HEAD:refs/heads/mine", version=version)
    assert pushed.code == 128
    assert BLOCKED in pushed.err, pushed
    heads = [head for connection in server.recorder.since(mark) for head in connection.heads]
    assert heads
    assert not any(b"receive-pack" in head for head in heads)
    assert all(f"\r\nauthorization: Basic {CANARY}\r\n".encode() in head for head in heads)


def test_another_repository_is_not_allowed(proxy: ProxyProcess, server: HttpOrigin, tmp_path: Path) -> None:
    mark = server.recorder.mark()
    for repository in ("other.git", "demo.git/../other.git"):
        done = git(proxy, tmp_path, "clone", f"https://{HOST}:{server.port}/git/{repository}", "no")
        assert BLOCKED in done.err, done
    assert not server.recorder.since(mark)


def test_the_block_says_why(proxy: ProxyProcess, server: HttpOrigin, tmp_path: Path) -> None:
    url = f"https://{HOST}:{server.port}/git/demo.git"
    done = run(
        [need("git"), "ls-remote", url + "/nothing"],
        tmp_path,
        proxy_environment(proxy) | {"GIT_SSL_CAINFO": str(proxy.ca_bundle), "GIT_CURL_VERBOSE": "1"},
    )
    assert "x-proxy-error: blocked-by-mitm-hook" in done.err, done


def test_a_git_that_does_not_trust_us_is_named_its_fix(proxy: ProxyProcess, server: HttpOrigin, tmp_path: Path) -> None:
    done = git(proxy, tmp_path, "ls-remote", f"https://{HOST}:{server.port}/git/demo.git", trusting=False)
    assert (done.code, "certificate" in done.err) == (128, True), done
    proxy.until_printed(f"set GIT_SSL_CAINFO={proxy.ca_bundle}", patience=3)
