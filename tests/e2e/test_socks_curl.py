"""curl and git over SOCKS5, with the README's own commands, and what they say when they get nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.clients import Done, need, run
from tests.kit.fleet import Fleet
from tests.kit.git_origin import git_backend, make_repository
from tests.kit.hooks import API, CANARY, Hook, Inject, inspecting
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN, STRICT, Policy
from tests.kit.proxy import ProxyProcess
from tests.kit.recipes import CURL, CURL_BY_VARIABLE, GIT, recipe
from tests.kit.tls import TestAuthority

TLS_NAME = "a.sub.test"
LITERAL = replace(OPEN, allowed=("127.0.0.1",))
HOOKED = inspecting(Hook(API, ("GET",), ("/repos/",), inject=(Inject(),)))
URL = "https://api.example.com/"
commands = pytest.mark.parametrize("command", [CURL, CURL_BY_VARIABLE], ids=["by option", "by variable"])


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


def shell(line: str, folder: Path, **environment: str) -> Done:
    return run(["sh", "-c", line], folder, environment)


def curl(proxy: ProxyProcess, folder: Path, *arguments: str) -> Done:
    return run([need("curl"), "-sS", *arguments], folder, {"ALL_PROXY": f"socks5h://{proxy.socks}"})


@commands
def test_a_name(command: str, proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path) -> None:
    need("curl")
    line = recipe(command, proxy, {URL: f"http://allowed.test:{origin.port}/t"})
    done = shell(line, tmp_path)
    assert (done.code, done.out) == (0, "ok from shared\n"), done


@commands
def test_https(command: str, proxy: ProxyProcess, authority: TestAuthority, tmp_path: Path) -> None:
    need("curl")
    with HttpOrigin("tls", tls=authority.server_context(TLS_NAME)) as server:
        line = recipe(command, proxy, {URL: f"https://{TLS_NAME}:{server.port}/t"})
        done = shell(line, tmp_path, CURL_CA_BUNDLE=str(authority.bundle))
        assert (done.code, done.out) == (0, "ok from tls\n"), done
        assert server.recorder.connections[0].sni == TLS_NAME


BLOCKS = [
    pytest.param(OPEN, "evil.test", id="a name that is not listed"),
    pytest.param(OPEN, "denied.test", id="a denied name"),
    pytest.param(OPEN, "127.0.0.1", id="an address that is not listed"),
    pytest.param(STRICT, "allowed.test", id="a name that resolves to loopback"),
    pytest.param(STRICT, "127.0.0.1", id="a loopback literal"),
]


@pytest.mark.parametrize(("policy", "host"), BLOCKS)
def test_blocked(policy: Policy, host: str, fleet: Fleet, origin: HttpOrigin, fast_path: bool, tmp_path: Path) -> None:
    mark = origin.recorder.mark()
    done = curl(fleet.get(policy, fast_path), tmp_path, f"http://{host}:{origin.port}/t")
    assert (done.code, done.out) == (97, ""), done
    assert "(2)" in done.err, "the reply's code: not allowed by ruleset"
    assert not origin.recorder.since(mark)


def test_a_name_that_does_not_resolve(fleet: Fleet, fast_path: bool, tmp_path: Path) -> None:
    proxy = fleet.get(replace(OPEN, allowed=("*.nowhere.test",)), fast_path)
    done = curl(proxy, tmp_path, "http://a.nowhere.test/")
    assert done.code == 97, done
    assert "(4)" in done.err, "host unreachable"


@pytest.mark.parametrize(("policy", "code"), [(OPEN, 97), (LITERAL, 0)], ids=["not listed", "listed"])
def test_a_name_that_the_client_resolves_is_judged_as_the_address(
    policy: Policy, code: int, fleet: Fleet, origin: HttpOrigin, fast_path: bool, tmp_path: Path
) -> None:
    proxy, mark = fleet.get(policy, fast_path), origin.recorder.mark()
    own = f"allowed.test:{origin.port}"
    arguments = ("--resolve", f"{own}:127.0.0.1", "--socks5", proxy.socks, f"http://{own}/t")
    done = run([need("curl"), "-sS", *arguments], tmp_path)
    assert done.code == code, done
    assert len(origin.recorder.since(mark)) == (1 if code == 0 else 0)


def test_a_hooked_host_is_read(inspected: Fleet, tls_origin: HttpOrigin, fast_path: bool, tmp_path: Path) -> None:
    proxy, mark = inspected.get(HOOKED, fast_path), tls_origin.recorder.mark()
    trust = ("--cacert", str(proxy.ca))
    done = curl(proxy, tmp_path, *trust, f"https://{API}:{tls_origin.port}/evil")
    assert (done.code, "MITM hook policy denied" in done.out) == (0, True), done
    assert not tls_origin.recorder.since(mark)
    done = curl(proxy, tmp_path, *trust, f"https://{API}:{tls_origin.port}/repos/x")
    assert (done.code, CANARY in done.out) == (0, True), "the origin echoes what was added"
    done = curl(proxy, tmp_path, f"https://{API}:{tls_origin.port}/repos/x")
    assert done.code == 60, "a client that does not trust the proxy's authority"


def test_a_hooked_host_in_clear_is_cut(inspected: Fleet, origin: HttpOrigin, fast_path: bool, tmp_path: Path) -> None:
    proxy, mark = inspected.get(HOOKED, fast_path), origin.recorder.mark()
    done = curl(proxy, tmp_path, f"http://{API}:{origin.port}/repos/x")
    assert (done.code, done.out) in ((52, ""), (56, "")), done
    assert not origin.recorder.since(mark)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpOrigin]:
    need("git")
    root = tmp_path_factory.mktemp("git")
    make_repository(root)
    with HttpOrigin("git", {"git": git_backend(root)}) as running:
        yield running


def test_git_over_http(proxy: ProxyProcess, server: HttpOrigin, tmp_path: Path) -> None:
    shown = "https://git.example.com/team/website"
    line = recipe(GIT, proxy, {shown: f"http://allowed.test:{server.port}/git/demo.git copy"})
    done = shell(line, tmp_path, GIT_TERMINAL_PROMPT="0")
    assert done.code == 0, done
    assert (tmp_path / "copy" / "hello.txt").read_text() == "hello from the origin\n"
    environment = {"ALL_PROXY": f"socks5h://{proxy.socks}", "GIT_TERMINAL_PROMPT": "0"}
    done = run(["git", "-C", "copy", "fetch", "origin"], tmp_path, environment)
    assert done.code == 0, done
    mark = server.recorder.mark()
    done = shell(line.replace("allowed.test", "evil.test").replace(" copy", " other"), tmp_path)
    assert (done.code, shlex.quote("evil.test") in done.err) == (128, True), done
    assert not server.recorder.since(mark)
