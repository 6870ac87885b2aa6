"""ssh, and git over ssh, through SOCKS5 to a real server: it is judged by host and port like everything else."""

from __future__ import annotations

import getpass
import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.clients import Done, need, run
from tests.kit.fleet import Fleet
from tests.kit.git_origin import make_repository
from tests.kit.policies import OPEN
from tests.kit.process import REPO, python
from tests.kit.proxy import ProxyProcess
from tests.kit.recipes import GIT_BY_SSH, SSH_BY_NC, SSH_BY_NCAT, recipe
from tests.kit.ssh_origin import SshOrigin


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshOrigin]:
    with SshOrigin(tmp_path_factory.mktemp("ssh")) as running:
        running.check_login()
        yield running


@pytest.fixture
def proxy(fleet: Fleet, server: SshOrigin, fast_path: bool) -> ProxyProcess:
    """Exactly this host and this port are allowed."""
    return fleet.get(replace(OPEN, allowed=(f"allowed.test:{server.port}",)), fast_path)


def by(program: str, proxy: ProxyProcess) -> list[str]:
    """The README's proxy command, as options of ssh."""
    _, *options, _ = shlex.split(recipe(RECIPES[program], proxy))
    return options


RECIPES = {"nc": SSH_BY_NC, "ncat": SSH_BY_NCAT}
programs = pytest.mark.parametrize("program", RECIPES)


@programs
def test_a_login(program: str, proxy: ProxyProcess, server: SshOrigin, tmp_path: Path) -> None:
    need(program)
    done = server.ssh(tmp_path, "allowed.test", "echo", "hello from the shell", options=by(program, proxy))
    assert (done.code, done.out) == (0, "hello from the shell\n"), done


@programs
@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1"])
def test_a_login_at_a_host_that_is_not_listed(
    host: str, program: str, proxy: ProxyProcess, server: SshOrigin, tmp_path: Path
) -> None:
    need(program)
    mark = server.recorder.mark()
    done = server.ssh(tmp_path, host, "echo", "never", options=by(program, proxy))
    assert (done.code, done.out) == (255, ""), done
    assert not server.recorder.since(mark)


def by_hand(proxy: ProxyProcess) -> str:
    assignment, *_ = shlex.split(recipe(GIT_BY_SSH, proxy))
    return assignment.partition("=")[2]


def by_env(proxy: ProxyProcess) -> str:
    command = python(REPO / "scripts" / "launch.py", "env", "--shell", "json")
    done = run(command, proxy.home, {"CODEX_HOME": str(proxy.home)})
    return str(json.loads(done.out)["GIT_SSH_COMMAND"])


@pytest.mark.parametrize("told", [by_hand, by_env], ids=["by hand", "by env"])
def test_git_over_ssh(
    told: Callable[[ProxyProcess], str], proxy: ProxyProcess, server: SshOrigin, tmp_path: Path
) -> None:
    need("git")
    need("nc")
    origin = tmp_path / "origin"
    origin.mkdir()
    bare = make_repository(origin)

    def git(*arguments: str) -> Done:
        before, ssh, after = told(proxy).partition("ssh ")
        settings = ["-c", "user.name=Test", "-c", "user.email=test@client.test"]
        environment = {"GIT_SSH_COMMAND": f"{before}{ssh}{shlex.join(server.options())} {after}"}
        return run([need("git"), *settings, *arguments], tmp_path, environment)

    def url(host: str) -> str:
        return f"ssh://{getpass.getuser()}@{host}:{server.port}{bare}"

    done = git("clone", url("allowed.test"), "copy")
    assert done.code == 0, done
    assert (tmp_path / "copy" / "hello.txt").read_text() == "hello from the origin\n"
    done = git("-C", "copy", "fetch", "origin")
    assert done.code == 0, done
    mark = server.recorder.mark()
    assert git("clone", url("evil.test"), "other").code == 128
    assert not server.recorder.since(mark)
