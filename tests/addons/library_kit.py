"""Proxies inside the test's own process, and a client that runs in the test's loop beside their deciders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_network_proxy import NetworkDecision, NetworkPolicyRequest, NetworkProxy, NetworkProxyBuilder

PATIENCE = 10.0
NAMES = ("allowed.test", "other.test", "hooked.test", "denied.test")

OPEN: Mapping[str, object] = {
    "enabled": True,
    "proxy_url": "http://127.0.0.1:0",
    "socks_url": "http://127.0.0.1:0",
    "allow_local_binding": True,
    "allowed_domains": ["allowed.test"],
    "denied_domains": ["denied.test"],
}
"""A network table that allows one name; the names of the tests lead to this machine."""


def builder(home: Path, **more: object) -> NetworkProxyBuilder:
    """A proxy with `OPEN` and what is given in addition, in a directory of its own."""
    home.mkdir(exist_ok=True)
    made = NetworkProxy.builder().config({**OPEN, **more}).environ({"HOME": str(home)}).home(home)
    for name in NAMES:
        made.resolve(name, "127.0.0.1")
    return made


class Thinking:
    """A decider that never answers; it tells when it is asked, and when its call is over."""

    def __init__(self) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended.set()
        return NetworkDecision.allow()


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    head: str
    body: bytes


async def ask(address: str, request: bytes) -> Answer:
    """Sends one request on a connection of its own, and reads the answer to its end."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await connect(address)
        try:
            writer.write(request)
            return await answer(reader)
        finally:
            writer.close()
            await writer.wait_closed()


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status = int(head.split(" ")[1])
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    return Answer(status, head, await reader.readexactly(int(fields.get("content-length", "0"))))


async def get(proxy: NetworkProxy, host: str, port: int, path: str = "/t") -> Answer:
    """A plain request, which the engine serves."""
    target = f"{host}:{port}"
    return await ask(proxy.http_address, f"GET http://{target}{path} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())


async def tunnel(proxy: NetworkProxy, host: str, port: int) -> Answer:
    """A CONNECT, which the door serves."""
    return await ask(proxy.http_address, f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode())


def reasons(proxy: NetworkProxy) -> list[tuple[str, str]]:
    """Host and reason of every block so far."""
    return [(entry.host, entry.reason) for entry in proxy.blocked_snapshot()]


async def until(true: Any) -> None:
    """Returns once `true()`; other threads and tasks go on meanwhile."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.001)
