"""The programs that the doctor tries: how each is made to fetch something, and what of its own may stand in the way."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from .doctor_findings import Advice, Concern, OwnSetting, read_settings

ROUTE, TRUST = Concern.ROUTE, Concern.TRUST
LOOPBACK = "127.0.0.1"
NAME = "codex-doctor.localhost"
"""For programs that never use a proxy for this machine; nobody but the proxy knows it."""

HOSTS = (LOOPBACK, "localhost", NAME)

THING = "codex-doctor"
"""The package that is asked for; nobody has it."""

FETCH = "fetch(process.argv[1]).catch((error) => { console.error(String(error.cause || error)); process.exit(1); })"

PROBE = """
import java.net.*;

public class Probe {
    public static void main(String[] words) throws Exception {
        ((HttpURLConnection) URI.create(words[0]).toURL().openConnection()).getResponseCode();
    }
}
"""


@dataclass(frozen=True, slots=True)
class Try:
    """One call: what is asked for, and a folder for whatever the program wants to keep."""

    program: str
    url: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Tool:
    """A program to try. `environment` keeps its caches in the folder, and other sources than the given one out.

    `files` are its own configuration, from the home folder unless absolute; `keys` what in them matters here.
    `host` is what it is asked to reach: an address of this machine shows also who goes past the proxy.
    """

    name: str
    command: Callable[[Try], list[str]]
    environment: Callable[[Try], dict[str, str]] = lambda _: {}
    programs: tuple[str, ...] = ()
    version: str = "--version"
    files: tuple[str, ...] = ()
    keys: dict[str, Concern] = field(default_factory=dict)
    advice: Advice = field(default_factory=Advice)
    host: str = LOOPBACK

    def find(self, path: str | None) -> str | None:
        """Where it is installed."""
        return next((found for name in self.programs or (self.name,) if (found := shutil.which(name, path=path))), None)

    def settings(self, environ: Mapping[str, str], ours: str) -> list[OwnSetting]:
        """What its own configuration says about proxies and certificates; `ours` as in `read_settings`."""
        home = Path(environ.get("HOME") or Path.home())
        files = [home / Template(name).safe_substitute(environ) for name in self.files]
        return [one for file in files for one in self._read(file, home, ours)]

    def _read(self, file: Path, home: Path, ours: str) -> list[OwnSetting]:
        place = f"~/{file.relative_to(home)}" if file.is_relative_to(home) else str(file)
        try:
            return list(read_settings(place, file.read_text("utf-8", "replace"), self.keys, ours))
        except OSError:
            return []


def _curl(one: Try) -> list[str]:
    return [one.program, "-sS", "-o", str(one.folder / "answer"), one.url]


def _git(one: Try) -> list[str]:
    return [one.program, "ls-remote", f"{one.url}/{THING}.git"]


def _npm(one: Try) -> list[str]:
    options = [f"--registry={one.url}/", f"--cache={one.folder}", "--fetch-retries=0", "--loglevel=error"]
    return [one.program, "view", THING, *options]


def _pip(one: Try) -> list[str]:
    options = ["--disable-pip-version-check", "--no-cache-dir", "--retries=0", f"--index-url={one.url}/simple"]
    return [one.program, "download", "--no-deps", f"--dest={one.folder}", *options, THING]


def _pip_environment(one: Try) -> dict[str, str]:
    """Variables win over pip.conf: no other index is asked."""
    sources = {"PIP_EXTRA_INDEX_URL": f"{one.url}/simple", "PIP_FIND_LINKS": str(one.folder), "PIP_NO_INDEX": "0"}
    return {**sources, "PIP_REQUIRE_VIRTUALENV": "0"}


def _uv(one: Try) -> list[str]:
    wanted = one.folder / "requirements.in"
    wanted.write_text(f"{THING}\n")
    options = ["--no-config", "--no-cache", "--no-python-downloads", f"--default-index={one.url}/simple"]
    return [one.program, "pip", "compile", "--quiet", *options, f"--python={sys.executable}", str(wanted)]


def _java(one: Try) -> list[str]:
    source = one.folder / "Probe.java"
    source.write_text(PROBE)
    return [one.program, "-XX:TieredStopAtLevel=1", str(source), one.url]


def _go(one: Try) -> list[str]:
    return [one.program, "list", "-m", "-versions", f"{THING}.invalid/module@latest"]


def _go_environment(one: Try) -> dict[str, str]:
    folders = dict.fromkeys(("GOPATH", "GOCACHE", "GOMODCACHE"), str(one.folder))
    sources = {"GOPROXY": one.url, "GOSUMDB": "off", "GONOPROXY": "none", "GOFLAGS": "-modcacherw"}
    return {**folders, **sources, "GOTOOLCHAIN": "local", "GO111MODULE": "on"}


def _cargo(one: Try) -> list[str]:
    return [one.program, "search", "--index", f"sparse+{one.url}/index/", THING]


def _cargo_environment(one: Try) -> dict[str, str]:
    """Its home is also its cache; what the user has configured goes along."""
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    for name in ("config.toml", "config"):
        if (home / name).is_file():
            shutil.copyfile(home / name, one.folder / name)
    return {"CARGO_HOME": str(one.folder), "CARGO_NET_RETRY": "0"}


GIT_KEYS = {"proxy": ROUTE, "sslCAInfo": TRUST, "sslCAPath": TRUST, "sslBackend": TRUST}
CURL_KEYS = {
    **dict.fromkeys(("proxy", "-x", "noproxy", "preproxy", "socks5", "socks5-hostname", "socks4"), ROUTE),
    **dict.fromkeys(("cacert", "capath"), TRUST),
}
NPM_KEYS = {"proxy": ROUTE, "https-proxy": ROUTE, "noproxy": ROUTE, "cafile": TRUST, "ca": TRUST, "ca[]": TRUST}

TOOLS = (
    Tool("curl", _curl, files=("${CURL_HOME}/.curlrc", "${XDG_CONFIG_HOME}/curlrc", ".curlrc"), keys=CURL_KEYS),
    Tool(
        "git",
        _git,
        lambda _: {"GIT_TERMINAL_PROMPT": "0"},
        files=("/etc/gitconfig", ".config/git/config", ".gitconfig"),
        keys=GIT_KEYS,
    ),
    Tool(
        "node",
        lambda one: [one.program, "-e", FETCH, one.url],
        advice=Advice(route="Node reads the proxy variables from 24 on, and from 22.21 on; install a newer one"),
    ),
    Tool(
        "npm",
        _npm,
        lambda _: {"npm_config_update_notifier": "false", "npm_config_logs_max": "0"},
        files=("${NPM_CONFIG_USERCONFIG}", ".npmrc"),
        keys=NPM_KEYS,
        host="localhost",  # it takes no certificate for an address through a proxy
    ),
    Tool(
        "pip",
        _pip,
        _pip_environment,
        programs=("pip", "pip3"),
        files=("${PIP_CONFIG_FILE}", "/etc/pip.conf", ".pip/pip.conf", ".config/pip/pip.conf"),
        keys={"proxy": ROUTE, "cert": TRUST},
    ),
    Tool("uv", _uv),
    Tool(
        "java",
        _java,
        version="-version",
        advice=Advice(
            route="Java reads no proxy variables: start it with `codex-proxy run`, or with -Dhttps.proxyHost=HOST "
            "-Dhttps.proxyPort=PORT, and the same with http",
            trust="Java has a store of its own: start it with `codex-proxy run`, or make one with keytool and name it "
            "with -Djavax.net.ssl.trustStore=STORE",
        ),
    ),
    Tool(
        "go",
        _go,
        _go_environment,
        version="version",
        advice=Advice(trust="on macOS Go trusts what the keychain trusts: add ca.pem there"),
        host=NAME,
    ),
    Tool(
        "cargo",
        _cargo,
        _cargo_environment,
        files=("${CARGO_HOME}/config.toml", ".cargo/config.toml", ".cargo/config"),
        keys={"proxy": ROUTE, "cainfo": TRUST},
    ),
)
