"""A system of names that does what the test says."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codex_network_proxy.addons.resolver import SystemResolver
from codex_network_proxy.policy.interfaces import Resolver

LIMIT = 20.0


def v4(address: str) -> tuple[Any, ...]:
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)


def v6(address: str, scope: int = 0) -> tuple[Any, ...]:
    return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, scope)


class FakeSystem:
    """Stands in for `getaddrinfo`. Names in `hanging` answer when the test sets `end`, with one address."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[bytes] = []
        self.hanging: set[bytes] = set()
        self.threads: list[threading.Thread] = []
        self.began = threading.Semaphore(0)
        self.end = threading.Event()

    def __call__(self, host: bytes, port: None, *, type: socket.SocketKind) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        self.threads.append(threading.current_thread())
        assert (port, type) == (None, socket.SOCK_STREAM)
        if host in self.hanging:
            self.began.release()
            self.end.wait(LIMIT)
            return [v4("192.0.2.99")]
        answer = self.answers[host.decode().removesuffix(".test.")]
        if isinstance(answer, Exception):
            raise answer
        found: list[tuple[Any, ...]] = answer
        return found


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


Make = Callable[..., SystemResolver]


def run[T](coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def resolve(resolver: Resolver, name: str) -> list[str]:
    return [str(address) for address in run(_resolve(resolver, name))]


async def _resolve(resolver: Resolver, name: str) -> tuple[Any, ...]:
    return tuple(await resolver.resolve(name, 443))


def hosts_file(folder: Path) -> Path:
    path = folder / "hosts"
    path.write_text("192.0.2.77 from-hosts.test\n10.0.0.5 single-label\n")
    return path


@contextmanager
def resolvers(hosts: Path) -> Iterator[Make]:
    """Makes resolvers with a system each; afterwards nothing of them hangs or runs."""
    made: list[tuple[SystemResolver, FakeSystem]] = []

    def make(system: FakeSystem, **options: Any) -> SystemResolver:
        resolver = SystemResolver(**{"getaddrinfo": system, "hosts_file": hosts, **options})
        made.append((resolver, system))
        return resolver

    yield make
    for resolver, system in made:
        system.end.set()
        resolver.close()
