"""A configuration that cannot be used: one clear line for each error, exit 1, and nothing listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.process import REPO, Process, clean_environment, python
from tests.kit.proxy import serve_command
from tests.kit.world import World

HEAD = 'default_permissions = "p"\n[permissions.p.network]\nenabled = true\n'


def refused(folder: Path, text: str | None, *arguments: str, **environment: str) -> list[str]:
    """What `serve` says on its way out."""
    world = World(folder / "world")
    config = folder / "config.toml"
    if text is not None:
        config.write_text(text)
    home = {"CODEX_HOME": str(folder)} | world.environment | environment
    with Process(serve_command(*arguments), clean_environment(folder, **home), folder) as process:
        assert process.ended() == 1, process.output
    assert world.binds() == [], "nothing listened"
    assert "Traceback" not in process.output
    return process.output.splitlines()


ONE_LINE = [
    pytest.param("default_permissions = [", ["config.toml"], id="broken TOML"),
    pytest.param(HEAD + 'allowed_domains = "x.test"\n', ["config.toml:4", "allowed_domains"], id="a wrong type"),
    pytest.param(HEAD + 'enabledd = "x"\n', ["config.toml:4", "enabledd", "`enabled`"], id="an unknown key"),
    pytest.param(
        HEAD + 'denied_domain = ["x.test"]\n', ["denied_domain", "`denied_domains`"], id="a typo that would open"
    ),
    pytest.param(HEAD + 'mode = "Full"\n', ["config.toml:4", "mode", "limited"], id="an unknown mode"),
    pytest.param(HEAD + 'allowed_domains = ["*"]\n', ["allowed_domains[0]", '"*"', "scoped wildcards"], id="a star"),
    pytest.param(HEAD + 'allowed_domains = ["**"]\n', ["allowed_domains[0]"], id="two stars"),
    pytest.param(HEAD + 'denied_domains = ["*"]\n', ["denied_domains[0]"], id="a denied star"),
    pytest.param(HEAD + "allowed_domains = [3]\n", ["allowed_domains[0]", "3"], id="a number among the patterns"),
    pytest.param('default_permissions = "q"\n[permissions.p.network]\n', ["`q`"], id="an undefined profile"),
    pytest.param('default_permissions = "p"\n', ["default_permissions"], id="no permissions at all"),
    pytest.param(HEAD + 'proxy_url = ""\n', ["proxy_url", "missing host"], id="an empty address"),
    pytest.param(HEAD + 'proxy_url = ":3128"\n', ["proxy_url", "missing host"], id="L01 a port without a host"),
    pytest.param(
        HEAD + 'allow_unix_sockets = ["x.sock"]\n', ["allow_unix_sockets[0]", "absolute"], id="a relative path"
    ),
]


@pytest.mark.parametrize(("text", "words"), ONE_LINE)
def test_one_error_is_one_line(text: str, words: list[str], tmp_path: Path) -> None:
    (line,) = refused(tmp_path, text)
    for word in words:
        assert word in line


BAD_PATTERNS = [
    "*",
    "**",
    "*.*",
    "?*",
    "[*]",
    "**.[*]",
    "[a-z].sub.test",
    "{a,b}.sub.test",
    "?.sub.test",
    "http://x.test",
    "x.test/path",
    "x.test:99999",
    "x.test:0",
    "::1:443:1:2:3:4:5:6:7",
    "",
    " ",
    "a b.test",
    "a..test",
    "user@x.test",
    "10.0.0.0/99",
    "10.0.0.1/8",
]


def test_a25_all_bad_patterns_are_named_at_once(tmp_path: Path) -> None:
    listed = ", ".join(f'"{pattern}"' for pattern in BAD_PATTERNS)
    lines = refused(tmp_path, HEAD + f"allowed_domains = [{listed}]\n")
    missing = [
        pattern
        for index, pattern in enumerate(BAD_PATTERNS)
        if not any(f"allowed_domains[{index}]" in line for line in lines)
    ]
    assert missing == []
    assert len(lines) == len(BAD_PATTERNS)


def test_all_kinds_of_errors_are_named_at_once(tmp_path: Path) -> None:
    lines = refused(tmp_path, HEAD + 'mode = "x"\nmitm = "yes"\nnonsense = 1\ndenied_domains = ["*"]\n')
    for number, word in enumerate(("mode", "mitm", "nonsense", "denied_domains[0]"), 4):
        assert any(f":{number}" in line and word in line for line in lines), word
    assert len(lines) == 4


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    unreadable = tmp_path / "folder"
    unreadable.mkdir()
    (line,) = refused(tmp_path, None, "--config", str(unreadable))
    assert str(unreadable) in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, None, "--config", str(tmp_path / "none.toml"))
    assert "none.toml" in line


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe\x00")
    (line,) = refused(tmp_path, None)
    assert "config.toml" in line


def test_a_missing_home(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, None, CODEX_HOME=str(tmp_path / "gone"))
    assert f'CODEX_HOME points to "{tmp_path / "gone"}", but that path does not exist' in line


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    (line,) = refused(tmp_path, None, CODEX_HOME=str(file))
    assert "but that path is not a directory" in line


@pytest.mark.parametrize("pin", ["x.test", "x.test=", "=127.0.0.1", "x.test=nowhere", "a b=127.0.0.1"])
def test_a_malformed_pin(pin: str, tmp_path: Path) -> None:
    (line,) = refused(tmp_path, HEAD, "--resolve", pin)
    assert pin in line or "--resolve" in line


def test_an_unknown_profile_on_the_command_line(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, HEAD, "--profile", "other")
    assert "`other`" in line


SAMPLE = """
default_permissions = "workspace"

[permissions.workspace.network]
enabled = true
proxy_url = "http://127.0.0.1:3128"
mode = "limited"
mitm = false
allowed_domains = ["*.openai.com", "localhost", "127.0.0.1", "::1", "api.github.com"]
denied_domains = ["evil.example"]

[[permissions.workspace.network.mitm_hooks]]
host = "api.github.com"

[permissions.workspace.network.mitm_hooks.match]
methods = ["POST", "PUT"]
path_prefixes = ["/repos/openai/"]
"""


def test_hooks_without_interception_load_with_a_warning(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(SAMPLE)
    command = python(REPO / "scripts" / "launch.py", "check", "--config", config)
    with Process(command, clean_environment(tmp_path), tmp_path) as process:
        assert process.ended() == 0, process.output
    assert "warning" in process.output
    assert "mitm" in process.output


def test_other_tables_of_the_file_are_nobodys_business(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        'model = "x"\n' + HEAD + "\n[permissions.p.filesystem]\nanything = 1\n[mcp_servers.x]\ncommand = 1\n"
    )
    command = python(REPO / "scripts" / "launch.py", "check", "--config", config)
    with Process(command, clean_environment(tmp_path), tmp_path) as process:
        assert process.ended() == 0, process.output
