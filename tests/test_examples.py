"""Every example runs as it stands, and does what it says."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.origins import HttpOrigin
from tests.kit.process import REPO, Process, clean_environment, python
from tests.kit.raw import connect, exchange, get
from tests.kit.world import World

EXAMPLES = REPO / "examples"
FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
CONFIG = """
default_permissions = "p"
[permissions.p.network]
enabled = true
allow_local_binding = true
allowed_domains = ["listed.test"]
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    (home / "config.toml").write_text(CONFIG)
    path = {"PYTHONPATH": str(REPO / ".typing"), "CODEX_HOME": str(home)}
    return clean_environment(home, **path, **more)


def in_a_world(home: Path) -> dict[str, str]:
    """Names lead to this machine."""
    world = World(home / "world", {name: [["127.0.0.1"]] for name in ("listed.test", "unlisted.test")})
    found = environment(home)
    return found | world.environment | {"PYTHONPATH": f"{world.environment['PYTHONPATH']}:{found['PYTHONPATH']}"}


def needs(module: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module.partition(".")[0]) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed")


@pytest.mark.parametrize(
    ("host", "answer", "code"),
    [
        pytest.param("listed.test", None, 0, id="a listed host passes unasked"),
        pytest.param("unlisted.test", "y", 0, id="another one passes when the person says so"),
        pytest.param("unlisted.test", "n", 1, id="and else does not"),
        pytest.param("unlisted.test", "", 1, id="nor when the person says nothing"),
    ],
)
def test_the_approval_ui(host: str, answer: str | None, code: int, tmp_path: Path, origin: HttpOrigin) -> None:
    command = [*python(EXAMPLES / "approval_ui.py"), *python("-c", FETCH, f"http://{host}:{origin.port}/t")]
    typed = tmp_path / "typed"
    typed.write_text(f"{answer}\n")
    shell = ["sh", "-c", 'exec "$@" < "$0"', str(typed), *map(str, command)]
    with Process(shell, in_a_world(tmp_path), tmp_path) as running:
        assert running.ended() == code, running.output
    asked = f"reach {host}:{origin.port}? [y/N]" in running.output
    assert asked is (answer is not None)
    assert ("ok from shared" in running.output) is (code == 0)
    assert (f"{host} was blocked: not approved" in running.output) is (code == 1)


def test_the_approval_ui_is_short() -> None:
    assert len((EXAMPLES / "approval_ui.py").read_text().splitlines()) <= 40


def test_the_tests_with_a_proxy(tmp_path: Path) -> None:
    options: list[str | Path] = ["-q", "-p", "no:cacheprovider", "-p", "no:anyio", "-c", tmp_path / "pytest.ini"]
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = python("-m", "pytest", *options, EXAMPLES / "test_with_proxy.py")
    with Process(command, environment(tmp_path, PYTHONDONTWRITEBYTECODE="1"), tmp_path) as running:
        assert running.ended(60) == 0, running.output
    assert "2 passed" in running.output


@needs("aiohttp")
def test_the_aiohttp_application(tmp_path: Path) -> None:
    with Process(python(EXAMPLES / "aiohttp_app.py", "0"), environment(tmp_path), tmp_path) as running:
        running.until_printed("listening on")
        found = re.search(r"http://\S+", running.output)
        assert found
        base = found[0]

        def call(path: str, method: str = "GET") -> str:
            request = urllib.request.Request(f"{base}{path}", method=method)
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
                return str(answer.read().decode())

        address = call("/proxy")
        assert exchange(address, get("http://127.0.0.1:1/")).status == 403
        assert [entry["reason"] for entry in json.loads(call("/blocked"))] == ["not_allowed_local"]
        assert json.loads(call("/allow/127.0.0.1", "POST")) == ["127.0.0.1"]
        assert exchange(address, connect("127.0.0.1:1"), "CONNECT").status == 502, "allowed, and nobody is there"
        assert running.stop(signal.SIGINT) == 0, running.output


@needs("opentelemetry")
def test_the_collector(tmp_path: Path) -> None:
    with Process(python(EXAMPLES / "otlp_collector.py"), environment(tmp_path), tmp_path) as running:
        assert running.ended(60) == 0, running.output
    assert "403 Blocked by network policy (blocked-by-allowlist)" in running.output
    assert "event.name = codex.network_proxy.policy_decision" in running.output
    assert "server.address = example.com" in running.output
    assert "conversation.id = example" in running.output


def test_each_example_is_run_here() -> None:
    tests: list[Callable[..., object]] = [value for name, value in globals().items() if name.startswith("test_the")]
    run = {name for test in tests for name in test.__code__.co_consts if isinstance(name, str) and name.endswith(".py")}
    assert run == {file.name for file in EXAMPLES.glob("*.py")}
