"""Secrets come from the environment and from files that only their owner can read (spec A1.3, B7.2, B7.5)."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_network_proxy.addons.secret_sources import SETTLED_NS, SIZE_LIMIT, EnvironmentSecrets, verify_all
from codex_network_proxy.policy.errors import ConfigProblem, SecretUnavailable
from codex_network_proxy.policy.hooks import compile_hooks
from codex_network_proxy.policy.hosts import parse_host
from codex_network_proxy.policy.settings import HookSettings, InjectSettings, Place

CANARY = "canary-5up3r-s3cr3t"


def write(path: Path, content: str | bytes, mode: int = 0o600) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return str(path)


def later(path: str) -> int:
    """A moment at which the file's time stamps have settled."""
    return os.stat(path).st_ctime_ns + SETTLED_NS + 1


def refusal(read: Callable[[str], str], argument: str) -> str:
    with pytest.raises(SecretUnavailable) as caught:
        read(argument)
    assert caught.value.__context__ is None
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@pytest.mark.parametrize("value", ["", CANARY, " with spaces\n"])
def test_a_variable_is_taken_verbatim(value: str) -> None:
    assert EnvironmentSecrets({"TOKEN": value}).environment("TOKEN") == value


def test_a_variable_is_read_when_it_is_asked_for() -> None:
    environ = {"TOKEN": "old"}
    secrets = EnvironmentSecrets(environ)
    environ["TOKEN"] = "new"

    assert secrets.environment("TOKEN") == "new"


def test_a_missing_variable_is_named() -> None:
    secrets = EnvironmentSecrets({"OTHER": CANARY})

    assert refusal(secrets.environment, "TOKEN") == "missing required environment variable TOKEN"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(f"{CANARY}\n", CANARY, id="a line"),
        pytest.param(f"\r\n \t{CANARY} \n\n", CANARY, id="white space at both ends"),
        pytest.param("a b\nc", "a b\nc", id="white space inside"),
        pytest.param("", "", id="nothing"),
        pytest.param("x" * SIZE_LIMIT, "x" * SIZE_LIMIT, id="the largest"),
    ],
)
def test_a_file_is_trimmed(tmp_path: Path, content: str, text: str) -> None:
    assert EnvironmentSecrets({}).file(write(tmp_path / "token", content)) == text


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o611])
def test_a_file_closed_to_others_is_taken(tmp_path: Path, mode: int) -> None:
    assert EnvironmentSecrets({}).file(write(tmp_path / "token", CANARY, mode)) == CANARY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620, 0o602, 0o777])
def test_a_file_open_to_others_is_refused_with_the_command_to_run(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "my token", CANARY, mode)

    assert refusal(EnvironmentSecrets({}).file, path) == (
        f"failed to read secret file {path}: group or others can read or write it; run: chmod 600 '{path}'"
    )


def test_the_file_behind_a_link_is_judged(tmp_path: Path) -> None:
    target = write(tmp_path / "target", CANARY)
    link = tmp_path / "link"
    link.symlink_to(target)
    secrets = EnvironmentSecrets({})

    assert secrets.file(str(link)) == CANARY
    os.chmod(target, 0o644)
    assert f"chmod 600 {link}" in refusal(secrets.file, str(link))


def _missing(path: Path) -> None:
    pass


def _loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(_missing, "No such file or directory", id="nothing there"),
        pytest.param(Path.mkdir, "Is a directory", id="a folder"),
        pytest.param(os.mkfifo, "it is not a regular file", id="a pipe nobody writes to"),
        pytest.param(_loop, "Too many levels of symbolic links", id="a link to itself"),
        pytest.param(lambda path: write(path, b"\xff" + CANARY.encode()), "it is not UTF-8 text", id="other bytes"),
        pytest.param(lambda path: write(path, "x" * (SIZE_LIMIT + 1)), "it is larger than 64 KiB", id="a large file"),
        pytest.param(lambda path: path.symlink_to("/dev/null"), "it is not a regular file", id="a device"),
    ],
)
def test_what_is_no_secret_file_is_refused(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "token"
    make(path)

    assert refusal(EnvironmentSecrets({}).file, str(path)) == f"failed to read secret file {path}: {message}"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("token.txt", "write an absolute path", id="a relative path"),
        pytest.param("/tmp/\0token", "it is not a usable path", id="a path with a NUL"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(path: str, message: str) -> None:
    assert refusal(EnvironmentSecrets({}).file, path).endswith(message)


def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "token", CANARY)
    secrets = EnvironmentSecrets({}, owners={os.geteuid() + 1})

    assert refusal(secrets.file, path) == (
        f"failed to read secret file {path}: it belongs to user {os.geteuid()}; it must be yours or root's"
    )


def test_a_file_that_has_not_changed_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "token", CANARY)
    secrets = EnvironmentSecrets({}, now_ns=lambda: later(path))

    assert secrets.file(path) == CANARY
    monkeypatch.setattr("codex_network_proxy.addons.secret_sources.os.open", None)
    assert secrets.file(path) == CANARY


@pytest.mark.parametrize("settled", [True, False], ids=["an old file", "a file written a moment ago"])
def test_a_changed_file_is_read_again(tmp_path: Path, settled: bool) -> None:
    path = write(tmp_path / "token", "old-")
    now = later(path) if settled else os.stat(path).st_ctime_ns
    secrets = EnvironmentSecrets({}, now_ns=lambda: now)

    assert secrets.file(path) == "old-"
    write(tmp_path / "token", "newer")
    assert secrets.file(path) == "newer"
    os.replace(write(tmp_path / "other", "newest"), path)
    assert secrets.file(path) == "newest"


def test_a_change_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "token", "old")
    secrets = EnvironmentSecrets({}, now_ns=lambda: os.stat(path).st_ctime_ns)
    stamp = os.stat(path).st_mtime_ns

    assert secrets.file(path) == "old"
    write(tmp_path / "token", "new")
    os.utime(path, ns=(stamp, stamp))
    assert secrets.file(path) == "new"


def test_a_file_opened_to_others_later_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "token", CANARY)
    secrets = EnvironmentSecrets({}, now_ns=lambda: later(path))

    assert secrets.file(path) == CANARY
    os.chmod(path, 0o644)
    assert "chmod 600" in refusal(secrets.file, path)


def test_a_file_removed_later_is_forgotten(tmp_path: Path) -> None:
    path = write(tmp_path / "token", CANARY)
    settled = later(path)
    secrets = EnvironmentSecrets({}, now_ns=lambda: settled)

    assert secrets.file(path) == CANARY
    os.unlink(path)
    assert "No such file" in refusal(secrets.file, path)
    assert CANARY not in repr(vars(secrets))


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    path = write(tmp_path / "token", CANARY)
    secrets = EnvironmentSecrets({}, now_ns=lambda: later(path))
    secrets.file(path)

    assert CANARY not in repr((secrets, vars(secrets)))


def hook(*inject: InjectSettings) -> HookSettings:
    return HookSettings(0, parse_host("api.allowed.test"), ("GET",), ("/",), inject=inject)


def test_verifying_reports_every_secret_that_cannot_be_sent(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    place = Place("permissions.work.network.mitm_hooks[0].actions.inject_request_headers[0]", 7, "config.toml")
    table = compile_hooks(
        [
            hook(InjectSettings("x-one", env="ONE", place=place), InjectSettings("x-two", env="TWO")),
            hook(InjectSettings("x-three", file=missing), InjectSettings("x-four", env="FOUR")),
        ]
    )
    problems = verify_all(table, EnvironmentSecrets({"TWO": CANARY, "FOUR": f"{CANARY}\n"}))

    assert problems[0] == ConfigProblem(
        place.path,
        "failed to compile injected header x-one: missing required environment variable ONE",
        line=7,
        file="config.toml",
    )
    assert [problem.message for problem in problems[1:]] == [
        f"failed to compile injected header x-three: failed to read secret file {missing}: No such file or directory",
        "failed to compile injected header x-four: invalid value for injected header x-four",
    ]
    assert CANARY not in "\n".join(map(str, problems))


def test_verifying_secrets_that_can_be_sent_finds_nothing() -> None:
    table = compile_hooks([hook(), hook(InjectSettings("x-key", env="KEY"))])

    assert verify_all(table, EnvironmentSecrets({"KEY": CANARY})) == []
