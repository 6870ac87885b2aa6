"""The command line: what each command prints, and the exit code a script may rely on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from codex_network_proxy.policy.config import default_config_text
from codex_network_proxy.scripts import config_commands
from codex_network_proxy.scripts.cli import main
from codex_network_proxy.scripts.first_config import first_config
from codex_network_proxy.scripts.serve import write_ready_file
from tests.kit.clients import run
from tests.kit.process import REPO, clean_environment, python

GOOD = 'default_permissions = "p"\n[permissions.p.network]\nenabled = true\nallowed_domains = ["a.test"]\n'
BAD = GOOD + 'denied_domain = ["x"]\nmode = "fast"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    return tmp_path


def test_check_says_what_a_good_file_holds(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text(GOOD)
    assert main(["check"]) == 0
    assert "ok (1 allowed, 0 denied, 0 hooks, mode full, enabled)" in capsys.readouterr().out


def test_check_prints_each_problem_on_a_line_of_its_own(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text(BAD)
    assert main(["check"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "denied_domains" in lines[0] + lines[1]
    assert "mode" in lines[0] + lines[1]


def test_check_prints_warnings_and_still_passes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text(GOOD.replace('"a.test"', ""))
    assert main(["check"]) == 0
    assert "warning: " in capsys.readouterr().err


def test_check_refuses_what_could_not_start(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = 'proxy_url = "127.0.0.1:9000"\nsocks_url = "http://127.0.0.1:9000"\n'
    (home / "config.toml").write_text(GOOD + both)
    assert main(["check"]) == 1
    assert capsys.readouterr().err.endswith(
        "config.toml: 127.0.0.1:9000 is both proxy_url and socks_url; write two ports\n"
    )
    (home / "config.toml").write_text(GOOD.replace("enabled = true", "enabled = false") + both)
    assert main(["check"]) == 0, "nothing would listen"


def test_check_without_a_file_checks_the_built_in_profile(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert "built-in configuration: ok" in capsys.readouterr().out


def test_check_of_a_file_that_is_not_there_fails(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(home / "nowhere.toml")]) == 1
    assert "there is no such file" in capsys.readouterr().err


def test_check_takes_another_profile(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text(GOOD)
    assert main(["check", "--profile", "other"]) == 1
    assert "undefined profile `other`" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "config", "init", "serve"])
def test_a_missing_codex_home_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "nowhere"))
    assert main([command]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "but that path does not exist" in lines[0]


def test_config_shows_the_built_in_profile_when_there_is_no_file(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config"]) == 0
    assert capsys.readouterr().out == f"# built-in configuration\n{default_config_text()}"
    assert main(["config", "--show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# built-in configuration"
    assert any(line.startswith('    "*.openai.com",  # built-in configuration:') for line in lines)


def test_config_prints_the_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text(GOOD)
    assert main(["config"]) == 0
    assert capsys.readouterr().out == f"# {home / 'config.toml'}\n{GOOD}"


def test_config_shows_what_is_in_force_and_where_it_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / "config.toml"
    file.write_text(GOOD.replace('"p"', '"other"') + "[permissions.q]\nextends = 'p'\n")
    assert main(["config", "--show", "--profile", "q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"# {file}", 'default_permissions = "q"', "[permissions.q.network]"]
    assert f'    "a.test",  # {file}:4' in lines


def test_config_shows_no_file_that_is_broken(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text(BAD)
    assert main(["config", "--show"]) == 1
    assert "denied_domains" in capsys.readouterr().err


def test_init_writes_a_file_that_loads_and_never_overwrites(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    assert main(["check"]) == 0
    (home / "config.toml").write_text(GOOD)
    assert main(["init"]) == 1
    assert "was left as it is" in capsys.readouterr().err
    assert (home / "config.toml").read_text() == GOOD


def test_init_makes_the_folder(home: Path) -> None:
    target = home / "new" / "config.toml"
    assert main(["init", "--config", str(target)]) == 0
    assert target.read_text() == first_config([])


def test_serve_is_the_default_command_and_ends_when_disabled(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / "config.toml").write_text(GOOD.replace("enabled = true", "enabled = false"))
    assert main([]) == 0
    assert "network.enabled is false; skipping proxy listeners" in caplog.text


def test_serve_prints_every_problem_and_starts_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text(BAD)
    assert main(["serve", "--ready-file", str(home / "ready")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not (home / "ready").exists()


def test_a_ready_file_of_an_earlier_run_does_not_stay(home: Path) -> None:
    (home / "config.toml").write_text(GOOD.replace("enabled = true", "enabled = false"))
    (home / "ready").write_text("{}")
    assert main(["serve", "--ready-file", str(home / "ready")]) == 0
    assert not (home / "ready").exists()


def test_serve_refuses_a_malformed_pin(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text(GOOD)
    assert main(["--resolve", "a.test"]) == 1
    assert "a.test" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["no-such-command"], id="an unknown command"),
        pytest.param(["serve", "--no-such-option"], id="an unknown option"),
        pytest.param(["serve", "--web-port", "many"], id="a port that is no number"),
        pytest.param(["serve", "--web-port", "0"], id="a port that would be known too late"),
        pytest.param(["serve", "--web-port", "65536"], id="a port that is too large"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: codex-proxy" in capsys.readouterr().err


def test_the_ready_file_is_whole_or_absent(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    write_ready_file(ready, {"pid": 1, "http": "127.0.0.1:1"})
    assert json.loads(ready.read_text()) == {"pid": 1, "http": "127.0.0.1:1"}
    assert [path.name for path in tmp_path.iterdir()] == ["ready.json"]


@pytest.mark.parametrize(
    "words",
    [("config", "--show"), ("explain", "localhost:1"), ("completion", "bash"), ("--help",), ("--version",)],
    ids=" ".join,
)
def test_who_stops_reading_is_not_bothered(words: tuple[str, ...], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        command = python(REPO / "scripts" / "launch.py", *words)
        ended = subprocess.run(
            command, env=clean_environment(tmp_path), stdout=nobody, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")


def test_without_standard_output_a_command_does_what_it_does(tmp_path: Path) -> None:
    command = " ".join(map(str, python(REPO / "scripts" / "launch.py", "check")))
    ended = run(["sh", "-c", f"{command} >&-"], tmp_path)
    assert (ended.code, ended.out) == (0, "")
    assert "Traceback" not in ended.err


def test_ctrl_c_ends_a_command_without_a_traceback(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(config_commands, "check", interrupted)
    assert main(["check"]) == 128 + signal.SIGINT


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["config", "--config", "DIR"], "DIR: is not a regular file; ", id="config of a directory"),
        pytest.param(["config", "--config", "LATIN"], "LATIN:1 encoding: is not UTF-8; ", id="config of other bytes"),
        pytest.param(["check", "--config", "DIR"], "DIR: is not a regular file; ", id="check of a directory"),
        pytest.param(
            ["init", "--config", "LATIN"], "LATIN exists already and was left as it is", id="init over a file"
        ),
        pytest.param(
            ["init", "--config", "LATIN/x"], "cannot write LATIN/x: LATIN is not a directory", id="init below a file"
        ),
        pytest.param(["learn", "--from", "DIR"], "cannot read DIR: Is a directory", id="learn from a directory"),
        pytest.param(["replay", "DIR"], "cannot read DIR: Is a directory", id="replay of a directory"),
    ],
)
def test_what_cannot_be_read_or_written_is_one_line(
    words: list[str], says: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"DIR": str(home / "log"), "LATIN": str(home / "latin.toml")}
    (home / "log").mkdir()
    (home / "latin.toml").write_bytes(b"\xe9")
    for name, path in places.items():
        words, says = [word.replace(name, path) for word in words], says.replace(name, path)
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(says)
