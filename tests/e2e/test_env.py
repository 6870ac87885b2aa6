"""`codex-proxy env`: a shell that evaluates it sends its programs through the proxy that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.clients import Done, need, run
from tests.kit.hooks import API, CANARY, SECRET_VARIABLE, Hook, Inject, inspecting
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN, Policy
from tests.kit.process import REPO, python
from tests.kit.proxy import ProxyProcess
from tests.kit.run_command import Runner, need_namespaces
from tests.kit.tls import TestAuthority

COMMAND = python(REPO / "scripts" / "launch.py", "env")


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[ProxyProcess]:
    with ProxyProcess(tmp_path / "home", OPEN) as running:
        yield running


def env(home: Path, *options: str, **environment: str) -> Done:
    return run([*COMMAND, *options], home, {"CODEX_HOME": str(home), **environment})


def test_a_shell_evaluates_it(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    words = " ".join(f"'{part}'" for part in COMMAND)
    url = f"http://allowed.test:{origin.port}/t"
    script = f'eval "$({words})" && {need("curl")} -sS {url} && {need("curl")} -sS http://evil.test/'
    done = run(["sh", "-c", script], proxy.home, {"CODEX_HOME": str(proxy.home), "NO_PROXY": "allowed.test"})
    assert done.code == 0, done
    assert done.out.startswith('ok from shared\n{"status":"blocked","host":"evil.test"')


def test_fish_evaluates_it(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    words = " ".join(f"'{part}'" for part in COMMAND)
    script = f"{words} | source; {need('curl')} -sS http://allowed.test:{origin.port}/t"
    environment = {"CODEX_HOME": str(proxy.home), "SHELL": "/usr/bin/fish"}
    done = run([need("fish"), "-c", script], proxy.home, environment)
    assert done.out == "ok from shared\n", done


@pytest.mark.parametrize(
    ("shell", "options", "line"),
    [
        pytest.param("/bin/bash", (), "export http_proxy=http://{}", id="bash"),
        pytest.param("", (), "export http_proxy=http://{}", id="no shell at all"),
        pytest.param("/usr/bin/fish", (), "set -gx http_proxy 'http://{}'", id="fish"),
        pytest.param("/usr/bin/fish", ("--shell", "bash"), "export http_proxy=http://{}", id="another than one's own"),
    ],
)
def test_the_form_is_that_of_the_shell(shell: str, options: tuple[str, ...], line: str, proxy: ProxyProcess) -> None:
    done = env(proxy.home, *options, SHELL=shell)
    assert (done.code, done.err) == (0, "")
    assert line.format(proxy.http) in done.out.splitlines()


def test_json_names_everything_once_and_what_is_to_go(tmp_path: Path, authority: TestAuthority) -> None:
    environment = {"SSL_CERT_FILE": str(authority.bundle), SECRET_VARIABLE: CANARY}
    with ProxyProcess(tmp_path / "home", inspecting(Hook(API, inject=(Inject(),))), environment=environment) as proxy:
        done = env(proxy.home, "--shell", "json", **{SECRET_VARIABLE: CANARY, "GIT_SSH_COMMAND": "ssh -v"})
        found = json.loads(done.out)
        assert found["HTTP_PROXY"] == f"http://{proxy.http}"
        assert found["ALL_PROXY"] == f"socks5h://{proxy.socks}"
        assert found["CURL_CA_BUNDLE"] == str(proxy.ca_bundle)
        assert found["GIT_SSH_COMMAND"] == "ssh -v", "the user's own"
        assert found[SECRET_VARIABLE] is None
        assert CANARY not in done.out
        assert f"unset {SECRET_VARIABLE}" in env(proxy.home, **{SECRET_VARIABLE: CANARY}).out.splitlines()
        assert f"set -e {SECRET_VARIABLE}" in env(proxy.home, "--shell", "fish", **{SECRET_VARIABLE: CANARY}).out


def test_of_several_proxies_one_is_chosen(proxy: ProxyProcess) -> None:
    other = ProxyProcess(proxy.home, OPEN)
    other.ready_file.unlink()
    with other:
        done = env(proxy.home)
        assert (done.code, done.out) == (1, "")
        assert "several proxies run (" in done.err
        assert f"http://{other.http}" in env(proxy.home, "--pid", str(other.child.pid)).out


def test_the_proxy_of_another_network_is_none(tmp_path: Path) -> None:
    need_namespaces()
    runner = Runner(tmp_path / "home", OPEN)
    with runner.start("sh", "-c", "echo ready; sleep 60", options=["--enforce"]) as process:
        process.until_printed("ready")
        done = env(runner.home)
        assert (done.code, done.out) == (1, "")
        assert "only its own command can reach this proxy" in done.err


FIXED = replace(OPEN, lines=('proxy_url = "http://127.0.0.1:3128"', 'socks_url = "http://127.0.0.1:8081"'))


def test_before_the_first_start_it_says_that_there_is_nothing_to_trust_yet(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(replace(FIXED, lines=(*FIXED.lines, "mitm = true")).toml())
    done = env(tmp_path)
    assert (done.code, f"export CURL_CA_BUNDLE={tmp_path}/proxy/ca-bundle.pem" in done.out.splitlines()) == (0, True)
    assert done.err.splitlines() == [
        "codex-proxy: no proxy runs; these are the addresses of the configuration",
        "codex-proxy: what programs must trust is made when the proxy first starts",
    ]


@pytest.mark.parametrize(
    ("policy", "code", "words"),
    [
        pytest.param(FIXED, 0, "no proxy runs; these are the addresses of the configuration", id="fixed ports"),
        pytest.param(OPEN, 1, "does not say on which port", id="any port"),
        pytest.param(replace(FIXED, enabled=False), 1, "network.enabled is false", id="switched off"),
        pytest.param(replace(FIXED, lines=("moode = 1",)), 1, "unknown key", id="a broken file"),
    ],
)
def test_without_a_proxy_the_configuration_tells(policy: Policy, code: int, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(policy.toml())
    done = env(tmp_path)
    assert done.code == code
    assert words in done.err
    assert ("export HTTP_PROXY=http://127.0.0.1:3128" in done.out) is (code == 0)
    assert env(tmp_path, "--pid", "1").code == 1
