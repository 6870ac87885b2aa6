"""The pytest plugin that embedding programs use in their own tests."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codex_network_proxy import ConfigError, NetworkDecision, NetworkPolicyRequest
from codex_network_proxy.testing import NetworkProxyFactory, network_proxy
from tests.kit.origins import HttpOrigin
from tests.kit.process import clean_environment, python
from tests.kit.raw import connect, exchange

__all__ = ["network_proxy"]  # pytest finds the fixture here

PINS = {"api.test": "127.0.0.1", "other.test": "127.0.0.1"}


def test_a_policy_from_a_dict(network_proxy: NetworkProxyFactory, origin: HttpOrigin) -> None:
    proxy = network_proxy({"allowed_domains": ["api.test"], "allow_local_binding": True}, resolve=PINS)
    for host in ("api.test", "other.test", "api.test"):
        answer = exchange(proxy.http_address, connect(f"{host}:{origin.port}"), "CONNECT")
        assert answer.status == (200 if host == "api.test" else 403)
    assert proxy.blocked() == [f"other.test:{origin.port}"]
    assert [entry.reason for entry in proxy.blocked_snapshot()] == ["not_allowed"]
    assert proxy.explain_sync(f"other.test:{origin.port}").allowed is False


def test_without_a_policy_nothing_is_allowed(network_proxy: NetworkProxyFactory) -> None:
    proxy = network_proxy()
    assert exchange(proxy.http_address, connect("a.test:443"), "CONNECT").status == 403
    assert proxy.blocked() == ["a.test:443"]


def test_programs_are_led_there(network_proxy: NetworkProxyFactory, tmp_path: Path) -> None:
    proxy = network_proxy()
    code = "import urllib.request as r, urllib.error as e\ntry: r.urlopen('http://a.test/')\nexcept e.HTTPError: pass"
    subprocess.run(python("-c", code), env=proxy.child_env(clean_environment(tmp_path)), check=True)
    assert proxy.url == f"http://{proxy.http_address}"
    assert proxy.blocked() == ["a.test:80"]


def test_several_proxies_in_one_test(network_proxy: NetworkProxyFactory, origin: HttpOrigin) -> None:
    local = {"allow_local_binding": True}
    one = network_proxy({"allowed_domains": ["api.test"], **local}, resolve=PINS)
    two = network_proxy({"allowed_domains": ["other.test"], **local}, resolve=PINS)
    for proxy in (one, two):
        exchange(proxy.http_address, connect(f"api.test:{origin.port}"), "CONNECT")
    assert (one.blocked(), two.blocked()) == ([], [f"api.test:{origin.port}"])


def test_a_decider_of_the_test(network_proxy: NetworkProxyFactory) -> None:
    async def decider(request: NetworkPolicyRequest) -> NetworkDecision:
        return NetworkDecision.deny(f"not {request.host}")

    proxy = network_proxy(decider=decider)
    exchange(proxy.http_address, connect("a.test:443"), "CONNECT")
    assert [entry.reason for entry in proxy.blocked_snapshot()] == ["not a.test"]


def test_secrets_come_from_the_tests_own_environment(network_proxy: NetworkProxyFactory) -> None:
    hook = {
        "host": "api.test",
        "match": {"methods": ["GET"], "path_prefixes": ["/"]},
        "actions": {"inject_request_headers": [{"name": "authorization", "secret_env_var": "TOKEN"}]},
    }
    hooked = {"mitm": True, "mitm_hooks": [hook], "allowed_domains": ["api.test"]}
    with pytest.raises(ConfigError, match="TOKEN"):
        network_proxy(hooked, environ={"HOME": "/"})
    proxy = network_proxy(hooked, environ={"HOME": "/", "TOKEN": "canary"})
    assert "TOKEN" not in proxy.child_env({"TOKEN": "canary"})


def test_a_program_that_installs_the_plugin(tmp_path: Path) -> None:
    """In a test run of its own, as an embedding program has it; nothing is left when its tests are over."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["codex_network_proxy.testing"]\n')
    (tmp_path / "test_it.py").write_text(
        "import threading\n\n"
        "def test_one(network_proxy):\n    assert network_proxy().blocked() == []\n\n"
        "def test_two():\n    assert [t.name for t in threading.enumerate() if 'codex' in t.name] == []\n"
    )
    path = Path(__file__).resolve().parents[1] / ".typing"
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-q",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:anyio",
            tmp_path,
        ],
        env=clean_environment(tmp_path, PYTHONPATH=str(path)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_nothing_of_other_tests_is_left() -> None:
    assert [thread.name for thread in threading.enumerate() if thread.name == "codex-network-proxy"] == []
