"""The tools of the README's tables: a line for each that fetches something, and a server that has it for all."""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from .clients import Done, need, run
from .git_origin import git_backend, make_repository
from .index_origin import package_index
from .npm_origin import npm_registry
from .origins import Exchange, HttpOrigin, not_found

UNTRIED = {
    "AWS CLI": "it talks to Amazon only",
    "docker build": "it needs a daemon and an image",
    "docker run": "it needs a daemon and an image",
    "docker pull": "the daemon of the machine would have to be told",
    "docker": "it needs a daemon and an image",
}
"""Why no test runs some tools."""

APT_HELPER = "/usr/lib/apt/apt-helper"
JAVA = """
class Get {
  public static void main(String[] arguments) throws Exception {
    java.net.URL url = new java.net.URL(arguments[0]);
    System.out.write(url.openConnection().getInputStream().readAllBytes());
    System.out.flush();
  }
}
"""
CARGO_MANIFEST = """
[package]
name = "mine"
version = "1.0.0"
edition = "2021"
[lib]
path = "lib.rs"
[dependencies]
kit-demo = "1"
"""
CARGO_CONFIG = """
[source.crates-io]
replace-with = "kit"
[source.kit]
registry = "sparse+{base}/cargo/"
"""
CRATE = {"name": "kit-demo", "vers": "1.0.0", "deps": [], "cksum": "0" * 64, "features": {}, "yanked": False}


@dataclass(frozen=True, slots=True)
class Tool:
    """`line` fetches from `{base}` what `shows` is in. `ready` writes what the tool reads, and may skip the test.

    `trust` are the variables that make it trust the file in `{ca}`; `{trust}` in the line stands for `option`.
    """

    program: str
    line: str
    shows: str = "ok from tools"
    trust: tuple[str, ...] = ()
    option: str = ""
    ready: Callable[[Path, str], None] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    plain: bool = True

    def fetch(self, folder: Path, base: str, before: str, ca: Path | None = None) -> Done:
        """Runs `before` and the line in one shell. With `ca` it is told whom to trust."""
        need(self.program)
        if self.ready is not None:
            self.ready(folder, base)
        option = self.option.format(ca=ca) if ca else ""
        line = self.line.replace("{base}", base).replace("{trust}", option)
        trust = dict.fromkeys(self.trust, str(ca)) if ca else {}
        return run(["sh", "-c", f"{before}\n{line}"], folder, self.environment | trust)


def _python(code: str) -> str:
    return f"{shlex.quote(sys.executable)} -P -c {shlex.quote(code)}"


def _needs_env_proxy(folder: Path, base: str) -> None:
    knows = run(["node", "-p", "process.allowedNodeEnvironmentFlags.has('--use-env-proxy')"], folder)
    if knows.out != "true\n":
        pytest.skip("this node does not know NODE_USE_ENV_PROXY")


def _needs_pip(folder: Path, base: str) -> None:
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip")


@cache
def _cargo() -> str:
    """The program itself: rustup's stand-in for it looks for its toolchains in the home folder."""
    if rustup := shutil.which("rustup"):
        found = subprocess.run([rustup, "which", "cargo"], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.strip()
    return need("cargo")


def _crate(folder: Path, base: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "cargo").symlink_to(_cargo())
    (folder / "Cargo.toml").write_text(CARGO_MANIFEST)
    (folder / "lib.rs").touch()
    (folder / ".cargo").mkdir()
    (folder / ".cargo" / "config.toml").write_text(CARGO_CONFIG.replace("{base}", base))


def crates(exchange: Exchange) -> None:
    """A sparse index with one crate in it."""
    match exchange.path.split("/")[2:]:
        case ["config.json"]:
            return exchange.answer(json.dumps({"dl": "https://files.invalid/crates"}).encode())
        case ["ki", "t-", "kit-demo"]:
            return exchange.answer(json.dumps(CRATE).encode())
        case _:
            return not_found(exchange)


TOOLS: dict[str, Tool] = {
    "curl": Tool("curl", "curl -sS {base}/t", trust=("CURL_CA_BUNDLE",)),
    "wget": Tool("wget", "wget -nv -O- {trust} {base}/t", option="--ca-certificate={ca}"),
    "requests": Tool(
        sys.executable,
        _python("import requests; print(requests.get('{base}/t').text)"),
        trust=("REQUESTS_CA_BUNDLE",),
    ),
    "httpx": Tool(sys.executable, _python("import httpx; print(httpx.get('{base}/t').text)"), trust=("SSL_CERT_FILE",)),
    "urllib": Tool(
        sys.executable,
        _python("import urllib.request as u; print(u.urlopen('{base}/t').read().decode())"),
        trust=("SSL_CERT_FILE",),
    ),
    "git": Tool(
        "git",
        "git clone -q {base}/git/demo.git copy && cat copy/hello.txt",
        "hello from the origin",
        trust=("GIT_SSL_CAINFO",),
        environment={"GIT_TERMINAL_PROMPT": "0"},
    ),
    "pip": Tool(
        sys.executable,
        f"{shlex.quote(sys.executable)} -P -m pip --disable-pip-version-check --retries 0 download --no-deps"
        " --no-cache-dir --index-url {base}/simple kit-demo",
        "Successfully downloaded kit-demo",
        trust=("PIP_CERT",),
        ready=_needs_pip,
        environment={"PIP_CONFIG_FILE": "/dev/null"},
        plain=False,  # It takes no index in clear without being asked to.
    ),
    "npm": Tool(
        "npm",
        "npm install --no-audit --no-fund --fetch-retries 0 --registry {base}/npm/ kit-demo"
        " && node -p \"'answer ' + require('kit-demo').answer\"",
        "answer 42",
        trust=("NPM_CONFIG_CAFILE",),
        environment={"npm_config_globalconfig": "/dev/null", "npm_config_update_notifier": "false"},
    ),
    "node": Tool(
        "node",
        "NODE_USE_ENV_PROXY=1 node -e \"fetch('{base}/t').then(a => a.text()).then(console.log)\"",
        trust=("NODE_EXTRA_CA_CERTS",),
        ready=_needs_env_proxy,
    ),
    "cargo": Tool(
        "cargo",
        "bin/cargo generate-lockfile && cat Cargo.lock",
        'name = "kit-demo"',
        trust=("CARGO_HTTP_CAINFO",),
        ready=_crate,
        environment={"CARGO_NET_RETRY": "0"},
    ),
}


def tools_origin(root: Path, tls: ssl.SSLContext | None = None) -> HttpOrigin:
    """What every tool fetches from. The folder `root` is filled with a repository, where there is git to make one."""
    if shutil.which("git") and not (root / "demo.git").exists():
        make_repository(root)
    routes = {"git": git_backend(root), "simple": package_index, "npm": npm_registry, "cargo": crates}
    return HttpOrigin("tools", routes, tls=tls)
