"""The configuration changes while the proxy runs: new rules hold at once, and broken ones close everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, attempt, connect, exchange, get


@pytest.fixture
def running(tmp_path: Path, fast_path: bool) -> ProxyProcess:
    return ProxyProcess(tmp_path, OPEN, fast_path=fast_path)


def statuses(proxy: ProxyProcess, host: str, port: int) -> tuple[int, int]:
    """Of a plain request and a CONNECT; 0 when the new rules cut the connection in the middle."""
    plain = attempt(proxy.http, get(f"http://{host}:{port}/t"))
    tunnel = attempt(proxy.http, connect(f"{host}:{port}"), "CONNECT")
    return plain.status if plain else 0, tunnel.status if tunnel else 0


def test_new_rules_hold_without_a_restart(running: ProxyProcess, origin: HttpOrigin) -> None:
    with running as proxy:
        assert statuses(proxy, "evil.test", origin.port) == (403, 403)
        proxy.write_config(replace(OPEN, allowed=("evil.test",)).toml())
        proxy.until_printed("config entry added to allowlist: evil.test")
        proxy.until(lambda: statuses(proxy, "evil.test", origin.port) == (200, 200), "the new rule")
        proxy.until_printed("config entry removed from allowlist: allowed.test")
        assert statuses(proxy, "allowed.test", origin.port) == (403, 403)


@pytest.mark.parametrize("broken", ["= [", OPEN.toml().replace("mode =", "moode ="), OPEN.toml() + "mitm = 3\n"])
def test_k05_a_broken_file_closes_everything_until_it_is_repaired(
    broken: str, running: ProxyProcess, origin: HttpOrigin
) -> None:
    with running as proxy:
        assert statuses(proxy, "allowed.test", origin.port) == (200, 200)
        proxy.write_config(broken)
        proxy.until(lambda: statuses(proxy, "allowed.test", origin.port) == (500, 500), "everything closed")
        answer = exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t"))
        assert answer.text == "error"
        assert statuses(proxy, "denied.test", origin.port) == (500, 500)
        proxy.until_printed("config.toml")
        proxy.reload(OPEN.toml())
        proxy.until(lambda: statuses(proxy, "allowed.test", origin.port) == (200, 200), "everything repaired")
        assert statuses(proxy, "denied.test", origin.port) == (403, 403)


def test_k06_a_tunnel_to_a_host_that_is_now_denied_is_closed(running: ProxyProcess, origin: HttpOrigin) -> None:
    with running as proxy, Client(proxy.http) as tunnel, Client(proxy.http) as other:
        assert tunnel.ask(connect(f"allowed.test:{origin.port}"), "CONNECT").status == 200
        assert other.ask(connect(f"a.sub.test:{origin.port}"), "CONNECT").status == 200
        proxy.write_config(replace(OPEN, denied=("allowed.test",)).toml())
        assert tunnel.ended()
        assert other.ask(b"GET /t HTTP/1.1\r\nHost: x\r\n\r\n").status == 200, "what is still allowed goes on"


def test_switched_off_and_on_again(running: ProxyProcess, origin: HttpOrigin) -> None:
    with running as proxy:
        proxy.reload(replace(OPEN, enabled=False).toml())
        proxy.until(lambda: statuses(proxy, "allowed.test", origin.port) == (503, 503), "switched off")
        answer = exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t"))
        assert answer.text == "Codex blocked this request by network policy."
        assert answer.get("x-proxy-error") is None
        assert answer.get("content-type") == "text/plain"
        proxy.reload(OPEN.toml())
        proxy.until(lambda: statuses(proxy, "allowed.test", origin.port) == (200, 200), "switched on")
