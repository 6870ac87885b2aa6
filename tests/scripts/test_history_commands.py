"""`learn` and `replay`: what they print of an audit log, and their exit codes."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import tomli

from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.decision import (
    ALLOW_REASON,
    Decision,
    DecisionSource,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
)
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.scripts.cli import main
from tests.kit.recipes import LEARN, block_of, recipe

CONFIG = 'default_permissions = "p"\n[permissions.p.network]\nenabled = true\n'
DAY = 86_400


def event(number: int, target: str, reason: str = ALLOW_REASON) -> str:
    ruling = Ruling(
        Decision.ALLOW if reason == ALLOW_REASON else Decision.DENY,
        reason,
        DecisionSource.BASELINE_POLICY,
        PolicyScope.DOMAIN,
    )
    request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, parse_endpoint(target), method="CONNECT")
    return PolicyDecisionEvent.of(ruling, request, f"id-{number}", number * DAY).json_line() + "\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text(CONFIG + 'allowed_domains = ["pypi.org", "*.test", "a.test"]\n')
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "network-proxy.jsonl").write_text(
        event(3, "pypi.org:443") + event(4, "new.example:443", "not_allowed") + event(5, "evil.example:443", "denied")
    )
    (tmp_path / "log" / "network-proxy.jsonl.1").write_text(event(2, "pypi.org:443") + '{"torn')
    return tmp_path


def test_learn_prints_a_list_to_paste(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn"]) == 0
    printed = capsys.readouterr().out
    assert tomli.loads(printed) == {"allowed_domains": ["new.example:443", "pypi.org:443"]}
    assert printed.splitlines() == [
        "# 4 requests, 1970-01-03 to 1970-01-06; 1 line could not be read",
        "allowed_domains = [",
        "    # new.example",
        '    "new.example:443",  # blocked once; last 1970-01-05',
        "    # pypi.org",
        '    "pypi.org:443",  # allowed 2 times; last 1970-01-04',
        "]",
        "# Left out, because another rule refused them:",
        "#   evil.example:443  denied, once",
        "# unused: *.test let nothing through",
        "# unused: a.test let nothing through",
        "# shadowed: a.test adds nothing to *.test",
    ]


def test_the_list_in_the_readme_is_what_it_prints(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    day = (date(2026, 11, 23) - date(1970, 1, 1)).days
    lists = 'allowed_domains = ["pypi.org", "registry.npmjs.org"]\ndenied_domains = ["gist.github.com"]\n'
    (home / "config.toml").write_text(CONFIG + lists)
    (home / "log" / "network-proxy.jsonl.1").unlink()
    asked = [("pypi.org:443", ALLOW_REASON)] * 4
    asked += [("files.pythonhosted.org:443", "not_allowed"), ("gist.github.com:443", "denied")]
    events = [event(day, *one).replace(f"id-{day}", f"id-{at}") for at, one in enumerate(asked)]
    (home / "log" / "network-proxy.jsonl").write_text("".join(events))
    _, *arguments = recipe(LEARN).split()
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip() == block_of(LEARN).shown(LEARN)


def test_learn_reads_another_log(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = home / "other.jsonl"
    log.write_text(event(1, "one.example:80"))
    assert main(["learn", "--from", str(log)]) == 0
    assert tomli.loads(capsys.readouterr().out) == {"allowed_domains": ["one.example:80"]}


def test_learn_of_an_empty_log_is_an_empty_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = home / "empty.jsonl"
    log.write_text("")
    assert main(["learn", "--from", str(log)]) == 0
    assert tomli.loads(capsys.readouterr().out) == {"allowed_domains": []}


def test_replay_says_what_another_configuration_changes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = home / "new.toml"
    new.write_text(CONFIG + 'allowed_domains = ["new.example", "idle.example"]\n')
    assert main(["replay", str(home / "log" / "network-proxy.jsonl"), "--config", str(new)]) == 3
    assert capsys.readouterr().out.splitlines() == [
        "4 requests, 1970-01-03 to 1970-01-06; 1 line could not be read",
        "now blocked: 2",
        "  pypi.org:443 https_connect CONNECT (not_allowed), 2 times",
        "now allowed: 1",
        "  new.example:443 https_connect CONNECT, once",
        "cannot be told: 0",
        "unused: idle.example would let none of them through",
    ]


def test_replay_under_the_same_rules_changes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(home / "log" / "network-proxy.jsonl")]) == 0
    assert "now blocked: 0" in capsys.readouterr().out


def test_replay_prints_a_bounded_number_of_rows(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = home / "wide.jsonl"
    log.write_text("".join(event(number, f"h{number}.example:443") for number in range(60)))
    assert main(["replay", str(log)]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert "now blocked: 60" in lines
    assert "  and 10 more" in lines


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param(["learn", "--from", "nowhere.jsonl"], "cannot read nowhere.jsonl", id="no log to learn from"),
        pytest.param(["replay", "nowhere.jsonl"], "cannot read nowhere.jsonl", id="no log to replay"),
        pytest.param(["learn", "--config", "nowhere.toml"], "there is no such file", id="learn without a file"),
        pytest.param(["replay", "x", "--config", "nowhere.toml"], "there is no such file", id="replay without one"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    arguments: list[str], error: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert error in line
