"""`codex-proxy explain`: the same answer as the running proxy gives, in words, as JSON, and as an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.scripts.cli import main

CONFIG = """
default_permissions = "workspace"
[permissions.workspace.network]
enabled = true
allowed_domains = ["pypi.org", "*.github.com", "127.0.0.1"]
denied_domains = ["gist.github.com"]
proxy_url = "http://127.0.0.1:3128"
"""
PINS = [
    f"--resolve={name}=140.82.112.3" for name in ("pypi.org", "api.github.com", "gist.github.com", "example.com")
] + ["--resolve=intranet.test=10.0.0.1"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    file = tmp_path / "config.toml"
    file.write_text(CONFIG)
    return file


def test_an_allowed_host(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "https://pypi.org/simple/", *PINS]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "pypi.org:443 (https_connect, CONNECT): allowed",
        "  The tunnel passes; the proxy does not read it.",
        f"  rule     pypi.org: allow ({config}:5)",
        "  address  140.82.112.3, public",
        f'  to block remove "pypi.org" from allowed_domains ({config}:5)',
    ]


def test_a_blocked_host(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "intranet.test:22", "--protocol", "socks5_tcp", *PINS]) == 3
    assert capsys.readouterr().out.splitlines() == [
        "intranet.test:22 (socks5_tcp): blocked",
        "  Codex blocked this request: domain not in allowlist (this is not a denylist block).",
        "  reason   not_allowed, blocked-by-allowlist",
        "  address  10.0.0.1, private; the proxy does not look up what it refuses",
        '  to allow add "intranet.test:22" to allowed_domains',
        "  to allow write allow_local_binding = true",
    ]


def test_what_nothing_allows(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "http://127.0.0.1:3128/"]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == "  to allow nothing helps: the proxy never connects to itself"


def test_a_disabled_proxy_has_no_code(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(CONFIG.replace("true", "false"))
    assert main(["explain", "pypi.org", *PINS]) == 3
    assert "  reason   proxy_disabled, no x-proxy-error" in capsys.readouterr().out.splitlines()


def test_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["explain", "https://gist.github.com/x", "--json", "--config", str(config), "--profile", "workspace"]
    assert main([*command, *PINS]) == 3
    fields = json.loads(capsys.readouterr().out)
    assert (fields["decision"], fields["reason"], fields["code"]) == ("deny", "denied", "blocked-by-denylist")
    assert [(one["rule"], one["file"], one["line"]) for one in fields["rulings"]] == [
        ("gist.github.com", str(config), 6)
    ]
    assert fields["changes"] == [f'remove "gist.github.com" from denied_domains ({config}:6)']


HOOK = """mitm = true
[[permissions.workspace.network.mitm_hooks]]
host = "api.github.com"
match = { methods = ["POST"], path_prefixes = ["/repos/"], headers = { x-version = ["1"] } }
"""


@pytest.mark.parametrize(
    ("header", "code"),
    [
        pytest.param("X-Version: 1", 0, id="the header that a hook asks for"),
        pytest.param("X-Version: 2", 3, id="another value"),
    ],
)
def test_method_and_headers_reach_the_hooks(header: str, code: int, config: Path) -> None:
    config.write_text(CONFIG + HOOK)
    request = ["https://api.github.com/repos/x", "--method", "POST", "--header", header]
    assert main(["explain", *request, *PINS]) == code


def test_the_way_through_an_upstream_proxy(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:canary@proxy.test:3129")
    main(["explain", "pypi.org", "--json", *PINS])
    out = capsys.readouterr().out
    assert json.loads(out)["upstream"] == "http://proxy.test:3129"
    assert "canary" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["ftp://a.test/"], 2, "ftp://a.test/: ftp:// is not HTTP; write the host", id="no URL of ours"),
        pytest.param(["a..test"], 2, "a..test: host has an empty label", id="no host"),
        pytest.param(["a.test", "--header", "x"], 2, "--header 'x' has no name; write NAME:VALUE", id="no header"),
        pytest.param(["a.test", "--resolve", "x"], 2, "--resolve 'x': an address is missing", id="no pin"),
        pytest.param(["a.test", "--profile", "x"], 1, "--profile refers to undefined profile `x`", id="no profile"),
    ],
)
def test_what_cannot_be_explained(
    arguments: list[str], code: int, message: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments]) == code
    assert message in capsys.readouterr().err


def test_a_name_without_an_address_is_neither_allowed_nor_blocked(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("codex_network_proxy.addons.resolver.SystemResolver.resolve", unknown)
    assert main(["explain", "www.github.com"]) == 1
    assert "could not resolve www.github.com" in capsys.readouterr().out


async def unknown(self: object, name: str, port: int) -> None:
    raise ResolutionFailed(f"could not resolve {name}")
