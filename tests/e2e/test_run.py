"""`codex-proxy run`: the command has everything it needs and nothing of the proxy's, and ends as if it stood alone."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.clients import need, run
from tests.kit.hooks import API, CANARY, RAW, SECRET_VARIABLE, Hook, Inject, inspecting
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN, Policy
from tests.kit.process import REPO, clean_environment, python
from tests.kit.raw import attempt, get
from tests.kit.run_command import Runner
from tests.kit.tls import TestAuthority

SHOW = "import json, os, sys; json.dump(dict(os.environ), sys.stdout)"


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "home", OPEN)


# -- what the command gets -----------------------------------------------------------------------------------------


def test_curl_reaches_what_is_allowed_and_nothing_is_added(runner: Runner, origin: HttpOrigin) -> None:
    done = runner.run(need("curl"), "-sS", f"http://allowed.test:{origin.port}/t")
    assert (done.code, done.out, done.err) == (0, "ok from shared\n", "")


def test_input_words_and_bytes_arrive_as_they_are(runner: Runner) -> None:
    echo = "import os, sys; sys.stdout.buffer.write(os.fsencode(sys.argv[1]) + b'|' + sys.stdin.buffer.read())"
    done = runner.run(*python("-c", echo, "--resolve -- a b"), stdin=b"typed")
    assert (done.code, done.out) == (0, "--resolve -- a b|typed")
    raw = subprocess.run(
        [*map(str, runner.command("printf", "%s")), b"\xff\xfe"],
        env=clean_environment(runner.home, **runner.environment),
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert raw.stdout == b"\xff\xfe"


def test_the_environment_is_complete(runner: Runner) -> None:
    env = json.loads(runner.run(*python("-c", SHOW)).out)
    assert env["HTTP_PROXY"] == env["https_proxy"] == env["npm_config_proxy"]
    assert env["HTTP_PROXY"].startswith("http://127.0.0.1:")
    assert env["ALL_PROXY"].startswith("socks5h://127.0.0.1:")
    assert env["GIT_SSH_COMMAND"].endswith(f"-x {env['ALL_PROXY'].removeprefix('socks5h://')} %h %p'")
    assert (env["NODE_USE_ENV_PROXY"], env["CODEX_NETWORK_PROXY_ACTIVE"]) == ("1", "1")
    assert env["HOME"] == str(runner.home), "what is there already stays"
    assert "SSL_CERT_FILE" not in env, "nothing is read, so nothing has to be trusted"


def test_a_name_that_is_not_allowed_is_not_looked_up(runner: Runner) -> None:
    done = runner.run(need("curl"), "-sS", "http://secret-message.example/")
    assert '"reason":"not_allowed"' in done.out
    assert runner.world.lookups() == []


def test_limits_and_signals_are_those_of_the_shell(runner: Runner) -> None:
    script = "ulimit -Sn; grep SigIgn /proc/self/status 2>/dev/null; true"
    shell = ["sh", "-c", script]
    alone = subprocess.run(shell, capture_output=True, text=True, check=True, env=clean_environment(runner.home))
    assert runner.run(*shell).out == alone.stdout


# -- how it ends -----------------------------------------------------------------------------------------------------

ENDS = [
    pytest.param(("sh", "-c", "exit 0"), 0, "", id="well"),
    pytest.param(("sh", "-c", "exit 3"), 3, "", id="with a code of its own"),
    pytest.param(("sh", "-c", "kill -TERM $$"), 143, "", id="by a signal"),
    pytest.param(
        ("no-such-program",), 127, "codex-proxy: no-such-program: No such file or directory\n", id="not found"
    ),
    pytest.param(("/",), 126, "codex-proxy: /: Permission denied\n", id="not to be executed"),
]


@pytest.mark.parametrize(("command", "code", "said"), ENDS)
def test_the_exit_code_is_that_of_the_command(command: tuple[str, ...], code: int, said: str, runner: Runner) -> None:
    done = runner.run(*command)
    assert (done.code, done.err) == (code, said)


def test_the_proxy_ends_with_the_command_though_a_child_of_that_lives(runner: Runner) -> None:
    done = runner.run("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $! $http_proxy")
    pid, url = done.out.split()
    os.kill(int(pid), signal.SIGKILL)
    assert attempt(url.removeprefix("http://"), get("http://allowed.test/")) is None, "nobody listens there any more"


SIGNALS = ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2"]


@pytest.mark.parametrize("name", SIGNALS)
def test_signals_are_passed_on(name: str, runner: Runner) -> None:
    script = f"trap 'echo caught; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
    with runner.start("sh", "-c", script) as process:
        process.until_printed("ready")
        assert process.stop(signal.Signals[f"SIG{name}"]) == 9
        assert process.output == "ready\ncaught\n"


def test_ctrl_c_reaches_the_command_once(runner: Runner) -> None:
    """The terminal sends it to the whole foreground; passed on again, many programs would take it for a second one."""
    count = (
        "import signal, sys, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print('seen', len(seen), flush=True)\n"
    )
    with Terminal([str(part) for part in runner.command(*python("-c", count))], runner) as terminal:
        terminal.until(b"ready")
        terminal.type(b"\x03")
        terminal.until(b"^C")
        terminal.type(b"\n")
        terminal.until(b"seen 1")


class Terminal:
    """A program in the foreground of a terminal of its own."""

    def __init__(self, command: list[str], runner: Runner) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(runner.home)
            os.execve(command[0], command, clean_environment(runner.home, **runner.environment))
        self.seen = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def until(self, words: bytes) -> None:
        while words not in self.seen:
            assert select.select([self.fd], [], [], 15)[0], self.seen
            self.seen += os.read(self.fd, 4096)


# -- HTTPS that is read ----------------------------------------------------------------------------------------------


@pytest.fixture
def reading(tmp_path: Path, authority: TestAuthority) -> Runner:
    policy = inspecting(Hook(API, ("GET",), ("/echo",), inject=(Inject(),)))
    environment = {"SSL_CERT_FILE": str(authority.bundle), SECRET_VARIABLE: CANARY}
    return Runner(tmp_path / "home", policy, environment)


def test_a_secret_reaches_the_origin_and_not_the_command(reading: Runner, tls_origin: HttpOrigin) -> None:
    done = reading.run(need("curl"), "-sS", f"https://{API}:{tls_origin.port}/echo")
    assert done.code == 0, done
    assert ["authorization", f"Bearer {CANARY}"] in json.loads(done.out)["headers"]
    env = json.loads(reading.run(*python("-c", SHOW)).out)
    assert SECRET_VARIABLE not in env
    assert CANARY not in env.values()
    bundle = str(reading.home / "proxy" / "ca-bundle.pem")
    names = (
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "PIP_CERT",
        "NODE_EXTRA_CA_CERTS",
    )
    assert {env[name] for name in names} == {bundle}


def test_limited_mode_reads_https_and_lets_nothing_be_written(
    tmp_path: Path, authority: TestAuthority, tls_origin: HttpOrigin
) -> None:
    runner = Runner(tmp_path / "home", replace(inspecting(), lines=()), {"SSL_CERT_FILE": str(authority.bundle)})
    url = f"https://{RAW}:{tls_origin.port}/t"
    curl = need("curl")
    script = f"{curl} -sS {url}; {curl} -s -X POST {url}; {curl} -s -d x {url}; echo $ALL_PROXY"
    done = runner.run("sh", "-c", script, options=["--mode", "limited"])
    assert done.out.startswith("ok from tls\nCodex blocked this request: method not allowed in limited mode.")
    assert "socks5h" not in done.out, "which would let nothing pass"
    assert "limited mode, POST may write" in done.err


# -- what keeps the command from running -----------------------------------------------------------------------------

BROKEN = [
    pytest.param(replace(OPEN, enabled=False), (), "network.enabled is false in", id="a proxy that is switched off"),
    pytest.param(replace(OPEN, lines=("moode = 1",)), (), "unknown key; did you mean `mode`?", id="a broken file"),
    pytest.param(OPEN, ("--allow", "http://x"), "--allow http://x:", id="a pattern that is none"),
    pytest.param(OPEN, ("--config", "/no/such.toml"), "there is no such file", id="no file"),
    pytest.param(OPEN, ("--allow", "**.invalid"), "was not refused", id="a fence with a hole where it is tried"),
]


@pytest.mark.parametrize(("policy", "options", "words"), BROKEN)
def test_without_a_fence_the_command_does_not_run(
    policy: Policy, options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    runner = Runner(tmp_path / "home", policy)
    done = runner.run("sh", "-c", "echo it ran", options=options)
    assert (done.code, done.out) == (125, "")
    assert words in done.err
    assert all(line.startswith("codex-proxy: ") for line in done.err.splitlines()), done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param((), "name the command", id="nothing"),
        pytest.param(("--allow", "a.test"), "name the command", id="an option alone"),
        pytest.param(("--",), "name the command", id="nothing behind the dashes"),
        pytest.param(("--enforced", "--", "true"), "--enforced", id="an option that there is not"),
        pytest.param(("--mode", "full", "--", "true"), "invalid choice: 'full'", id="a mode that is no narrower"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], words: str, runner: Runner) -> None:
    done = run(python(REPO / "scripts" / "launch.py", "run", *arguments), runner.home, runner.environment)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_a_command_needs_no_dashes_before_it(runner: Runner) -> None:
    done = run(python(REPO / "scripts" / "launch.py", "run", "echo", "--", "-n"), runner.home, runner.environment)
    assert done.out == "-- -n\n"


def test_the_fence_is_tried_and_that_does_not_count(runner: Runner) -> None:
    assert runner.run("true").err == ""
    (event,) = map(json.loads, runner.audit_log.read_text().splitlines())
    assert event["server.address"].startswith("canary-")
    assert event["server.address"].endswith(".invalid")
    learned = run(python(REPO / "scripts" / "launch.py", "learn"), runner.home, runner.environment)
    assert learned.code == 0
    assert "canary" not in learned.out
