"""What a SOCKS5 client is told, code by code (spec A5), and what a change of the configuration does to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN, Policy
from tests.kit.proxy import Event, ProxyProcess
from tests.kit.raw import Client
from tests.kit.socks_client import BIND, CONNECT, GRANTED, SocksClient, socks_tunnel

FAR = replace(
    OPEN,
    allowed=("*.far.test", "allowed.test"),
    names=(
        ("public.far.test", (("93.184.216.34",),)),
        ("both.far.test", (("2606:2800:220:1::1", "93.184.216.34"),)),
        ("nowhere.far.test", ((),)),
    ),
)


@dataclass(frozen=True, slots=True)
class Code:
    """A request, and the code of its reply. Without a port it goes to one where nobody listens."""

    id: str
    code: int
    host: bytes
    command: int = CONNECT
    policy: Policy = FAR


CODES = [
    Code("0x02 not allowed", 2, b"evil.test"),
    Code("0x02 no host", 2, b"a b.far.test"),
    Code("0x03 network unreachable", 3, b"public.far.test"),
    Code("0x03 network unreachable by both families", 3, b"both.far.test"),
    Code("0x04 a name that does not resolve", 4, b"nowhere.far.test"),
    Code("0x05 connection refused", 5, b"allowed.test"),
    Code("0x07 BIND", 7, b"allowed.test", BIND),
]


@pytest.fixture
def refusing() -> Iterator[int]:
    """A port that nobody else can take, and where nobody listens."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in CODES])
def test_code(row: Code, fleet: Fleet, refusing: int, fast_path: bool) -> None:
    with SocksClient(fleet.get(row.policy, fast_path).socks) as client:
        reply = client.command(row.host, refusing, row.command)
        assert (reply.code, str(reply.address), reply.port) == (row.code, "0.0.0.0", 0)
        assert client.ended()


def test_0x00_names_the_address_that_the_origin_sees(fleet: Fleet, origin: HttpOrigin, fast_path: bool) -> None:
    mark = origin.recorder.mark()
    with SocksClient(fleet.get(OPEN, fast_path).socks) as client:
        reply = client.command(b"allowed.test", origin.port)
        assert reply.code == 0
        (arrived,) = origin.recorder.since(mark)
        assert arrived.peer == f"{reply.address}:{reply.port}"


def test_0x08_address_type(fleet: Fleet) -> None:
    with SocksClient(fleet.get(OPEN).socks) as client:
        assert client.greet() == GRANTED
        client.send(b"\x05\x01\x00\x02")
        assert client.reply().code == 8
        assert client.ended()


# -- the configuration changes ----------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path, fast_path: bool) -> ProxyProcess:
    return ProxyProcess(tmp_path, OPEN, fast_path=fast_path)


def code(proxy: ProxyProcess, host: bytes, port: int) -> int:
    with SocksClient(proxy.socks) as client:
        return client.command(host, port).code


def test_0x01_while_the_configuration_is_broken(running: ProxyProcess, origin: HttpOrigin) -> None:
    with running as proxy, socks_tunnel(proxy, "allowed.test", origin.port) as client:
        proxy.reload("= [")
        assert client.ended(), "what was open is closed"
        assert [code(proxy, host, origin.port) for host in (b"allowed.test", b"denied.test")] == [1, 1]
        proxy.reload(OPEN.toml())
        proxy.until(lambda: code(proxy, b"allowed.test", origin.port) == 0, "everything repaired")
        assert code(proxy, b"denied.test", origin.port) == 2


def test_0x02_while_switched_off(running: ProxyProcess, origin: HttpOrigin) -> None:
    with running as proxy:
        proxy.reload(replace(OPEN, enabled=False).toml())
        proxy.until(
            lambda: (
                code(proxy, b"allowed.test", origin.port) == 2 and bool(proxy.audit_events(0, of_a_proxy_that_is_off))
            ),
            "switched off",
        )
        event = proxy.audit_events(1, of_a_proxy_that_is_off)[0]
        assert (event["network.policy.scope"], event["network.policy.source"]) == ("non_domain", "proxy_state")
        assert event["network.transport.protocol"] == "socks5_tcp"
        proxy.reload(OPEN.toml())
        proxy.until(lambda: code(proxy, b"allowed.test", origin.port) == 0, "switched on")


def of_a_proxy_that_is_off(event: Event) -> bool:
    return bool(event["network.policy.reason"] == "proxy_disabled")


def test_k06_a_tunnel_to_a_host_that_is_now_denied_is_closed(running: ProxyProcess, origin: HttpOrigin) -> None:
    with (
        running as proxy,
        socks_tunnel(proxy, "allowed.test", origin.port) as denied,
        socks_tunnel(proxy, "a.sub.test", origin.port) as other,
    ):
        proxy.reload(replace(OPEN, denied=("allowed.test",)).toml())
        assert denied.ended()
        assert other.ask(b"GET /t HTTP/1.1\r\nHost: x\r\n\r\n").status == 200, "what is still allowed goes on"


def test_a_narrower_mode_closes_every_tunnel(running: ProxyProcess, origin: HttpOrigin) -> None:
    with running as proxy, socks_tunnel(proxy, "allowed.test", origin.port) as client:
        proxy.reload(replace(OPEN, mode="limited").toml())
        assert client.ended()


def test_a_first_byte_that_never_comes_costs_nobody_else_anything(fleet: Fleet, origin: HttpOrigin) -> None:
    proxy = fleet.get(OPEN)
    silent = [Client(proxy.socks) for _ in range(200)]
    with socks_tunnel(proxy, "allowed.test", origin.port) as client:
        assert client.ask(b"GET /t HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
    for one in silent:
        one.sock.close()
