"""Which listeners a running proxy opens, and what it says of them."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from codex_network_proxy.addons.handover import HandOver
from codex_network_proxy.addons.runtime import Runtime
from codex_network_proxy.policy.decision import Blocked, NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.hosts import parse_endpoint
from tests.kit.raw import Client

from .runtime_kit import Place


class NoEngine:
    """Nothing is handed over here."""

    def take(self, handover: HandOver) -> None:
        raise AssertionError(handover)


def opened(runtime: Runtime) -> list[str]:
    """The lines about the listeners of a door that was opened, and what is bound while it is."""

    async def body() -> list[str]:
        runtime.open_door(NoEngine())
        return runtime.listeners()

    return asyncio.run(body())


def test_both_listeners_open_and_none_of_them_is_dialled(place: Place) -> None:
    place.write('"127.0.0.1"')
    runtime = place.open()
    http, socks = opened(runtime)
    assert http == f"HTTP proxy listening on {runtime.http_address}"
    assert socks == f"SOCKS5 proxy listening on {runtime.socks_address}"
    for address in (runtime.http_address, runtime.socks_address):
        assert address is not None
        request = NetworkPolicyRequest(NetworkProtocol.SOCKS5_TCP, parse_endpoint(address))
        verdict = asyncio.run(runtime.authority.decide(request))
        assert isinstance(verdict, Blocked)
        assert verdict.reason == "not_allowed_local"


def test_where_https_is_intercepted_it_is_told_what_to_trust(place: Place) -> None:
    place.write('"127.0.0.1"', "mitm = true\nenable_socks5 = false\n")
    runtime = place.open()
    _, trust = opened(runtime)
    assert runtime.tls.interception is not None
    assert trust == f"HTTPS is intercepted where needed; clients must trust {runtime.tls.interception.child_bundle}"


def test_without_socks5_there_is_one_listener(place: Place) -> None:
    place.write('"a.test"', "enable_socks5 = false")
    runtime = place.open()
    assert opened(runtime) == [f"HTTP proxy listening on {runtime.http_address}"]
    assert runtime.socks_address is None


def test_when_one_listener_cannot_be_had_the_other_is_closed(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        place.write('"a.test"')
        text = place.config.read_text()
        place.config.write_text(text.replace('socks_url = "http://127.0.0.1:0"', f'socks_url = "127.0.0.1:{port}"'))
        runtime = place.open()
        with pytest.raises(OSError, match=f"127.0.0.1:{port} is in use by another program"):
            opened(runtime)
    assert runtime.door is None
    assert runtime.http_address is not None
    with pytest.raises(ConnectionRefusedError):
        Client(runtime.http_address)


def test_one_address_cannot_be_both(place: Place) -> None:
    place.write('"a.test"')
    place.config.write_text(place.config.read_text().replace("127.0.0.1:0", "127.0.0.1:9"))
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9 is both proxy_url and socks_url; write two ports"):
        opened(place.open())


def test_limited_mode_says_that_socks5_is_blocked_at_start_and_at_a_change(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    notice = 'SOCKS5 is blocked in limited mode; set mode="full" to allow SOCKS5'
    place.write('"a.test"', 'mode = "limited"')
    runtime = place.open()
    opened(runtime)
    assert caplog.text.count(notice) == 1
    for more, count in (("", 1), ('mode = "limited"', 2), ('mode = "limited"\ndenied_domains = ["b.test"]', 2)):
        place.write('"a.test"', more)
        runtime.reload()
        assert caplog.text.count(notice) == count, more


def test_limited_mode_without_socks5_says_nothing_of_it(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    place.write('"a.test"', 'mode = "limited"\nenable_socks5 = false')
    opened(place.open())
    assert "SOCKS5" not in caplog.text
