"""Where secrets come from: what stops the start, and what happens when a file changes meanwhile (spec B7.5)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.canaries import BY_FILE, FILED, check_absent, filed, planted, variables
from tests.kit.hooks import CANARY, SECRET_VARIABLE
from tests.kit.inner import Inner, enter, http1_bytes
from tests.kit.origins import HttpOrigin
from tests.kit.process import Process
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client
from tests.kit.tls import TestAuthority


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filed(tmp_path_factory.mktemp("secret") / "token.txt", FILED)


def refusal(home: Path, secret: Path, given: dict[str, str]) -> str:
    """What a start that must fail says."""
    made = ProxyProcess(home, planted(secret), environment=given)
    with Process(made.command, made.environment, home) as process:
        assert process.ended() == 1, process.output
    assert "Traceback" not in process.output
    check_absent([("output", process.output.encode())])
    return process.output


def test_a_missing_variable_stops_the_start(secret: Path, tmp_path: Path) -> None:
    said = refusal(tmp_path, secret, {})
    message = (
        f"failed to compile injected header authorization: missing required environment variable {SECRET_VARIABLE}"
    )
    assert message in said
    assert "config.toml:" in said


def test_a_secret_that_is_no_header_value_stops_the_start(secret: Path, tmp_path: Path) -> None:
    for value in (f"{CANARY}\nx-a: b", f"{CANARY}\x1b", f"{CANARY}\u00e9"):
        assert "invalid value for injected header authorization" in refusal(tmp_path, secret, {SECRET_VARIABLE: value})


FILES = [
    pytest.param(0o640, FILED, "chmod 600", id="one that the group can read"),
    pytest.param(0o604, FILED, "chmod 600", id="one that everybody can read"),
    pytest.param(0o620, FILED, "chmod 600", id="one that the group can write"),
    pytest.param(0o600, f"{FILED}\nx-a: b", "invalid value for injected header x-key", id="one with two lines"),
    pytest.param(0o600, f"{FILED}\n" * 9999, "larger than", id="one that is too large"),
]


@pytest.mark.parametrize(("mode", "content", "message"), FILES)
def test_a_file_stops_the_start(mode: int, content: str, message: str, tmp_path: Path) -> None:
    file = filed(tmp_path / "token.txt", content)
    file.chmod(mode)
    said = refusal(tmp_path / "home", file, {SECRET_VARIABLE: CANARY})
    assert message in said
    assert str(file) in said or "x-key" in said
    if message == "chmod 600":
        assert f"run: chmod 600 {file}" in said


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    said = refusal(tmp_path, tmp_path / "nothing.txt", {SECRET_VARIABLE: CANARY})
    assert f"failed to read secret file {tmp_path / 'nothing.txt'}" in said


def test_j09_a_file_may_change_while_the_proxy_runs(
    authority: TestAuthority, tls_origin: HttpOrigin, tmp_path: Path
) -> None:
    file = filed(tmp_path / "token.txt", "first")
    target = f"{BY_FILE}:{tls_origin.port}".encode()
    made = ProxyProcess(tmp_path / "home", planted(file), environment=variables(authority))
    with made as proxy, enter(proxy, target) as client:
        assert key_seen(client, target) == "first"
        filed(file, "second")
        assert key_seen(client, target) == "second"
        replaced = filed(tmp_path / "new.txt", "third")
        replaced.replace(file)
        assert key_seen(client, target) == "third"
        file.chmod(0o644)
        assert key_seen(client, target) is None
        proxy.until_printed(f"run: chmod 600 {file}")
        file.chmod(0o600)
        assert key_seen(client, target) == "third"
        file.unlink()
        assert key_seen(client, target) is None
        filed(file, "two\nlines")
        assert key_seen(client, target) is None
        filed(file, "fourth")
        assert key_seen(client, target) == "fourth"
    assert not any(word in proxy.output for word in ("first", "second", "third", "two\n", "fourth", "Traceback"))


def key_seen(client: Client, target: bytes) -> str | None:
    """What the origin got as `x-key`, or nothing when the request was refused, in general terms."""
    answer = client.ask(http1_bytes(target, Inner(path=b"/echo")))
    if answer.status == 403:
        assert answer.get("x-proxy-error") == "blocked-by-policy"
        assert answer.text == "Codex blocked this request by network policy."
        return None
    return str(dict(answer.json()["headers"])["x-key"])
