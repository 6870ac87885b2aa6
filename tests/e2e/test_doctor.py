"""`doctor` with the programs of this machine: what it finds out about them, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from codex_network_proxy.scripts.doctor_checks import running
from tests.kit.clients import Done, need, run
from tests.kit.policies import OPEN
from tests.kit.process import REPO, python
from tests.kit.proxy import ProxyProcess
from tests.kit.tls import TestAuthority

CONFIG = """
default_permissions = "p"
[permissions.p.network]
enabled = true
proxy_url = "http://127.0.0.1:0"
socks_url = "http://127.0.0.1:0"
allowed_domains = ["a.test"]
"""
GOOD = "proxied, trusts the certificate authority"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("home", "home/.codex", "bin", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "home" / ".codex" / "config.toml").write_text(CONFIG)
    return tmp_path / "home"


def install(home: Path, *names: str) -> None:
    """Makes programs of this machine the only ones there are."""
    for name in names:
        (home.parent / "bin" / name).symlink_to(need(name))


def doctor(home: Path, *words: str, **more: str) -> Done:
    environment = {"PATH": str(home.parent / "bin"), "TMPDIR": str(home.parent / "tmp"), **more}
    return run(python(REPO / "scripts" / "launch.py", "doctor", *words), home, environment)


def on(name: str, done: Done) -> dict[str, Any]:
    (found,) = (one for one in json.loads(done.out) if one["subject"].partition(" ")[0] == name)
    return dict(found)


@pytest.mark.parametrize(
    "names", [["curl"], ["git"], ["npm", "node"], ["cargo", "rustc"], ["java"]], ids=lambda names: names[0]
)
def test_a_program_that_uses_the_proxy_is_fine(names: list[str], home: Path) -> None:
    install(home, *names)
    toolchains = os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup")
    found = on(names[0], doctor(home, "--json", RUSTUP_HOME=toolchains))
    assert (found["state"], found["text"], found["fix"]) == ("ok", GOOD, None)
    assert found["subject"] != names[0], "it should say which version"


def test_pip_as_well(home: Path) -> None:
    pytest.importorskip("pip")
    program = home.parent / "bin" / "pip"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m pip "$@"\n')
    program.chmod(0o755)
    assert on("pip", doctor(home, "--json"))["text"] == GOOD


def test_node_does_when_it_is_new_enough(home: Path) -> None:
    install(home, "node")
    found = on("node", doctor(home, "--json"))
    version = tuple(int(part) for part in found["subject"].split()[1].split("."))
    if version >= (24,) or (22, 21) <= version < (23,):
        assert found["text"] == GOOD
    else:
        assert found["text"] == "goes past the proxy (HTTP and HTTPS)"
        assert "from 24 on" in found["fix"]


def test_a_good_machine_is_told_in_lines(home: Path) -> None:
    install(home, "curl")
    done = doctor(home)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("configuration    ok ")
    assert any(line.startswith("curl ") and line.endswith(f" ok     {GOOD}") for line in lines)
    assert lines[-1] == "not installed    ok     git, node, npm, pip, uv, java, go, cargo"


def test_a_program_that_goes_past_the_proxy_is_found_out_with_the_line_to_blame(home: Path) -> None:
    install(home, "curl")
    (home / ".curlrc").write_text("# mine\nnoproxy = *\n")
    done = doctor(home, "--json")
    found = on("curl", done)
    assert (done.code, found["state"]) == (1, "FAULT")
    assert found["text"] == "goes past the proxy (HTTP and HTTPS)"
    assert found["fix"] == "remove `noproxy` in ~/.curlrc:2, which wins over the variables"


def test_a_program_that_trusts_somebody_else_is_found_out(home: Path, authority: TestAuthority) -> None:
    install(home, "curl")
    (home / ".curlrc").write_text(f"cacert = {authority.bundle}\n")
    done = doctor(home, "--json")
    found = on("curl", done)
    assert (done.code, found["state"]) == (1, "FAULT")
    assert found["text"].startswith("proxied, but does not trust the certificate authority: curl: (60) SSL certificate")
    assert found["fix"] == "remove `cacert` in ~/.curlrc:1, which wins over the variables for certificates"
    assert "~/.curlrc:1, which wins" in doctor(home).out


def test_a_program_that_is_told_to_trust_this_proxy_is_believed(home: Path, authority: TestAuthority) -> None:
    install(home, "curl")
    bundle = home / ".codex" / "proxy" / "ca-bundle.pem"
    bundle.parent.mkdir(mode=0o700)
    bundle.write_bytes(authority.bundle.read_bytes())
    (home / ".curlrc").write_text(f"cacert = {bundle}\n")
    done = doctor(home, "--json")
    assert (done.code, on("curl", done)["state"]) == (0, "note")


def test_variables_of_the_shell_do_not_mislead_a_trial(home: Path) -> None:
    """A dead proxy and an exception for everything; the trial brings its own."""
    install(home, "curl")
    done = doctor(home, "--json", http_proxy="http://127.0.0.1:1", NO_PROXY="*", CURL_CA_BUNDLE="/nowhere")
    assert on("curl", done)["text"] == GOOD
    assert "lead to another proxy" in on("environment", done)["text"]


def test_a_broken_configuration_fails_and_programs_are_tried_all_the_same(home: Path) -> None:
    install(home, "curl")
    (home / ".codex" / "config.toml").write_text(CONFIG + 'mode = "ful"\n')
    done = doctor(home, "--json")
    assert done.code == 1
    assert '"ful" is not a mode' in on("configuration", done)["text"]
    assert on("curl", done)["text"] == GOOD


def test_nothing_is_left_behind(home: Path) -> None:
    install(home, "curl", "git", "npm", "node")
    before = sorted(home.rglob("*"))
    doctor(home)
    assert sorted(home.rglob("*")) == before
    assert list((home.parent / "tmp").iterdir()) == []


def test_a_running_proxy_is_known_by_its_addresses(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path / "home", OPEN) as proxy:
        assert running(proxy.home) == dict.fromkeys((proxy.http, proxy.socks), proxy.child.pid)
    assert running(proxy.home) == {}
