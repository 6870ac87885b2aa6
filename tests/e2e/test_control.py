"""`status`, `blocked`, `reload` and `mode` against a running proxy, as a person calls them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.clients import Done, run
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.process import REPO, python
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import exchange, get, request


def command(proxy: ProxyProcess, *words: str) -> Done:
    """`codex-proxy WORDS` with the home of the proxy."""
    return run(python(REPO / "scripts" / "launch.py", *words), proxy.home, {"CODEX_HOME": str(proxy.home)})


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[ProxyProcess]:
    with ProxyProcess(tmp_path / "home", OPEN) as running:
        yield running


def status(proxy: ProxyProcess) -> dict[str, Any]:
    done = command(proxy, "status", "--json")
    assert done.code == 0, done.err
    (one,) = json.loads(done.out)
    assert one["pid"] == proxy.child.pid
    found: dict[str, Any] = one["status"]
    return found


def test_status_tells_what_the_proxy_does(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).status == 200
    assert exchange(proxy.http, get("http://evil.test/")).status == 403
    found = status(proxy)
    assert (found["http"], found["mode"], found["policy"]) == (proxy.http, "full", "in force")
    assert found["config"] == str(proxy.config)
    assert found["audit_log"] == str(proxy.audit_log)
    counted = {(row["decision"], row["reason"]): row["count"] for row in found["decisions"]}
    assert counted == {("allow", "allow"): 1, ("deny", "not_allowed"): 1}
    printed = command(proxy, "status")
    assert printed.code == 0
    assert f"http:            {proxy.http}" in printed.out
    assert "1 deny  not_allowed (http)" in printed.out


def test_prometheus_text_is_one_request_away(proxy: ProxyProcess) -> None:
    exchange(proxy.http, get("http://evil.test/"))
    done = command(proxy, "status", "--prometheus")
    assert 'codex_proxy_decisions_total{protocol="http",decision="deny",reason="not_allowed"} 1' in done.out
    assert "codex_proxy_blocked_total 1" in done.out


def test_blocks_are_listed(proxy: ProxyProcess) -> None:
    exchange(proxy.http, get("http://evil.test:8080/secret-path"))
    done = command(proxy, "blocked")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ evil.test:8080 GET not_allowed \(http\)\n", done.out)
    (one,) = json.loads(command(proxy, "blocked", "--json").out)
    assert one["blocked"][0]["host"] == "evil.test"


def test_the_mode_narrows_and_a_reload_brings_the_file_back(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    post = request("POST", f"http://allowed.test:{origin.port}/t")
    assert command(proxy, "mode", "limited").out == f"proxy {proxy.child.pid}: mode limited until the next reload\n"
    assert status(proxy)["mode"] == "limited"
    assert exchange(proxy.http, post).get("x-proxy-error") == "blocked-by-method-policy"
    assert command(proxy, "reload").out == f"proxy {proxy.child.pid}: reloaded\n"
    assert exchange(proxy.http, post).status == 200


def test_nothing_said_there_widens_the_policy(proxy: ProxyProcess) -> None:
    done = command(proxy, "mode", "full")
    assert done.code == 2
    assert "invalid choice: 'full'" in done.err


def test_a_broken_file_is_told_at_once(proxy: ProxyProcess) -> None:
    proxy.config.write_text("broken")
    done = command(proxy, "reload")
    assert (done.code, done.err) == (1, "the configuration is broken; every request is refused, see the proxy's log\n")
    assert status(proxy)["policy"].startswith("broken")


def test_several_proxies_are_told_apart(proxy: ProxyProcess) -> None:
    with ProxyProcess(proxy.home / "other", OPEN, environment={"CODEX_HOME": str(proxy.home)}) as other:
        assert {one["pid"] for one in json.loads(command(proxy, "status", "--json").out)} == {
            proxy.child.pid,
            other.child.pid,
        }
        done = command(proxy, "reload")
        assert done.code == 1
        assert "several proxies run" in done.err
        assert command(proxy, "reload", "--pid", str(other.child.pid)).code == 0


@pytest.mark.parametrize("words", [("status",), ("blocked",), ("reload",), ("mode", "limited")], ids=" ".join)
def test_without_a_proxy_there_is_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    done = run(python(REPO / "scripts" / "launch.py", *words), tmp_path, {"CODEX_HOME": str(tmp_path)})
    assert (done.code, done.err) == (1, f"no proxy runs with CODEX_HOME {tmp_path}\n")


def test_what_a_killed_proxy_left_behind_is_removed(proxy: ProxyProcess) -> None:
    (path,) = (proxy.home / "proxy").glob("control-*.sock")
    proxy.child.kill()
    proxy.child.wait()
    assert path.exists()
    assert command(proxy, "status").code == 1
    assert not path.exists()


def test_the_socket_ends_with_the_proxy(proxy: ProxyProcess) -> None:
    proxy.child.terminate()
    proxy.child.wait()
    assert not list((proxy.home / "proxy").glob("control-*.sock"))
