"""`codex-proxy run`: what it says of what was blocked, and that the command cannot move its fence."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.kit.clients import need
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN, STRICT
from tests.kit.process import REPO, python
from tests.kit.run_command import Runner


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "home", OPEN)


def test_the_end_says_what_was_blocked_and_what_would_allow_it(runner: Runner, origin: HttpOrigin) -> None:
    curl = need("curl")
    at = f"evil.test:{origin.port}"
    script = f"{curl} -s http://{at}/; {curl} -s http://{at}/x; {curl} -s https://denied.test/; exit 4"
    done = runner.run("sh", "-c", script)
    assert done.code == 4
    first, missed, denied = done.err.splitlines()
    assert first == "codex-proxy: 3 blocked; what would allow it stands on the right"
    assert missed.split() == ["2x", at, "not", "in", "allowed_domains", "--allow", at]
    file = runner.home / "config.toml"
    both = f'remove "denied.test" from denied_domains ({file}:10); add "denied.test:443" to allowed_domains'
    assert denied.endswith(f'denied_domains has "denied.test"  {both}')
    assert missed.index("--allow") == denied.index("remove"), "columns"


def test_the_rule_that_it_names_is_one_that_works(runner: Runner, origin: HttpOrigin) -> None:
    command = (need("curl"), "-sS", f"http://evil.test:{origin.port}/t")
    rule = runner.run(*command).err.split()[-2:]
    assert rule[0] == "--allow"
    done = runner.run(*command, options=rule)
    assert (done.out, done.err) == ("ok from shared\n", "")


def test_what_was_allowed_and_could_not_be_reached_is_told_from_blocks(runner: Runner) -> None:
    curl = need("curl")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        at = f"allowed.test:{deaf.getsockname()[1]}"
        script = f"{curl} -s http://{at}/; {curl} -s https://{at}/; {curl} -s http://denied.test/"
        done = runner.run("sh", "-c", script)
    first, _, second, refused = done.err.splitlines()
    assert first == "codex-proxy: 1 blocked; what would allow it stands on the right"
    assert second == "codex-proxy: 2 allowed and failed (502), for which no rule is to blame"
    assert refused == f"  2x  {at}  connection refused"


def test_limited_mode_says_nothing_of_socks5_unless_somebody_asked_for_it(runner: Runner) -> None:
    assert runner.run("true", options=["--mode", "limited"]).err == ""


def test_what_is_denied_stays_denied(runner: Runner, origin: HttpOrigin) -> None:
    at = f"denied.test:{origin.port}"
    done = runner.run(need("curl"), "-s", f"http://{at}/", options=["--allow", "denied.test"])
    assert '"reason":"denied"' in done.out


def test_local_addresses_stay_closed(tmp_path: Path, origin: HttpOrigin) -> None:
    runner = Runner(tmp_path / "home", STRICT)
    curl = need("curl")
    script = f"{curl} -s http://allowed.test:{origin.port}/; {curl} -s http://127.0.0.1:{origin.port}/"
    done = runner.run("sh", "-c", script)
    assert done.out.count('"reason":"not_allowed_local"') == 2
    assert "resolves to a local address  allow_local_binding = true" in done.err
    assert f"--allow 127.0.0.1:{origin.port}" in done.err
    assert "ok from shared" in runner.run("sh", "-c", script, options=["--allow", "127.0.0.1"]).out


def test_the_command_cannot_move_its_fence(runner: Runner, origin: HttpOrigin) -> None:
    """Neither by writing the file nor by asking the proxy to read it again."""
    reload = " ".join(map(str, python(REPO / "scripts" / "launch.py", "reload")))
    widen = f"sed -i.old 's/allowed.test/evil.test/' {runner.home}/config.toml; {reload}"
    done = runner.run("sh", "-c", f"{widen}; {need('curl')} -sS http://evil.test:{origin.port}/t")
    assert ": reloaded\n" in done.out
    assert '"reason":"not_allowed"' in done.out
    assert "evil.test" in (runner.home / "config.toml").read_text()
