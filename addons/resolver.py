"""Names to addresses: the system's resolver, behind a limit, a small cache and pins (spec A3)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from codex_network_proxy.policy.decision import IPAddress
from codex_network_proxy.policy.errors import InvalidHost, ResolutionFailed
from codex_network_proxy.policy.hosts import parse_host
from codex_network_proxy.policy.interfaces import Resolver

from .hosts_file import HOSTS_FILE, HostsFile
from .lookup_threads import LookupThreads

LIMIT = 2.0
CACHE_SECONDS = 5.0
CACHE_ENTRIES = 1_024

Addresses = tuple[IPAddress, ...]
GetAddrInfo = Callable[..., Sequence[tuple[Any, ...]]]

_LOOPBACK: Addresses = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


class SystemResolver:
    """Asks the hosts file, then `getaddrinfo`, for absolute names only: no search domain is ever added.

    A lookup takes at most `limit` seconds; one that hangs delays no other. Good answers are kept for
    `cache_seconds`, failures are not. Callers who ask for the same name at once share one lookup.
    """

    def __init__(
        self,
        limit: float = LIMIT,
        *,
        cache_seconds: float = CACHE_SECONDS,
        cache_entries: int = CACHE_ENTRIES,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
        hosts_file: Path = HOSTS_FILE,
        threads: LookupThreads | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._cache_seconds = cache_seconds
        self._cache_entries = cache_entries
        self._getaddrinfo = getaddrinfo
        self._hosts_file = HostsFile(hosts_file)
        self._threads = threads or LookupThreads()
        self._monotonic = monotonic
        self._cache: dict[str, tuple[float, Addresses]] = {}
        # A future's result is the addresses, or the words of the failure: an exception would be shared by its waiters.
        self._running: dict[str, asyncio.Future[Addresses | str]] = {}

    async def resolve(self, name: str, port: int) -> Addresses:
        """All addresses of the canonical name, best first. Suspends only when the answer is not at hand.

        Raises `ResolutionFailed` on an error, an empty answer, or after `limit` seconds.
        """
        if known := self._known(name):
            return known
        running = self._running.get(name)
        if running is None or running.get_loop() is not asyncio.get_running_loop():
            running = self._start(name)
        # Shielded: a client that leaves must not end the lookup for the others.
        answer = await asyncio.shield(running)
        if isinstance(answer, str):
            raise ResolutionFailed(f"could not resolve {name}: {answer}")
        return answer

    def forget(self) -> None:
        """Empties the cache."""
        self._cache.clear()

    def close(self) -> None:
        """Ends idle threads; later lookups fail."""
        self._threads.close()

    def _known(self, name: str) -> Addresses | None:
        if entry := self._cache.get(name):
            if self._monotonic() < entry[0]:
                return entry[1]
            del self._cache[name]
        try:
            return (ip_address(name),)
        except ValueError:
            return None

    def _start(self, name: str) -> asyncio.Future[Addresses | str]:
        loop = asyncio.get_running_loop()
        lookup: asyncio.Future[Addresses | str] = loop.create_future()
        self._running[name] = lookup
        if not self._threads.submit(partial(self._work, name, loop, lookup)):
            self._finish(name, lookup, "too many lookups hang")
            return lookup
        timer = loop.call_later(self._limit, self._finish, name, lookup, f"no answer within {self._limit:g} s")
        lookup.add_done_callback(lambda _: timer.cancel())
        return lookup

    def _work(self, name: str, loop: asyncio.AbstractEventLoop, lookup: asyncio.Future[Addresses | str]) -> None:
        """In a thread of its own."""
        if lookup.done():  # it waited for a thread until its limit was over
            return
        answer = self._look_up(name)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._finish, name, lookup, answer)

    def _look_up(self, name: str) -> Addresses | str:
        try:
            if known := self._hosts_file(name) or _loopback(name):
                return known
            # The final dot makes the name absolute. Bytes keep Python's own IDNA rules out of it.
            found = self._getaddrinfo(f"{name}.".encode("ascii"), None, type=socket.SOCK_STREAM)
            return _addresses(found) or "no address"
        except OSError as error:
            return error.strerror or "lookup failed"
        except Exception as error:  # closed by default: what no rule foresaw is no address
            return type(error).__name__

    def _finish(self, name: str, lookup: asyncio.Future[Addresses | str], answer: Addresses | str) -> None:
        if self._running.get(name) is lookup:
            del self._running[name]
        if isinstance(answer, tuple):
            self._remember(name, answer)
        if not lookup.done():
            lookup.set_result(answer)

    def _remember(self, name: str, addresses: Addresses) -> None:
        self._cache.pop(name, None)
        while len(self._cache) >= self._cache_entries:
            del self._cache[next(iter(self._cache))]
        self._cache[name] = (self._monotonic() + self._cache_seconds, addresses)


def _loopback(name: str) -> Addresses:
    """`localhost` and everything under it is this machine and never asked of DNS (RFC 6761 section 6.3)."""
    return _LOOPBACK if name == "localhost" or name.endswith(".localhost") else ()


def _addresses(found: Iterable[tuple[Any, ...]]) -> Addresses:
    """The internet addresses of a `getaddrinfo` answer, in its order, each once."""
    kept = [_address(entry[4]) for entry in found if entry[0] in (socket.AF_INET, socket.AF_INET6)]
    return tuple(dict.fromkeys(kept))


def _address(sockaddr: tuple[Any, ...]) -> IPAddress:
    address = ip_address(sockaddr[0])
    # A link-local address means nothing without its interface, which comes as a number beside it.
    if isinstance(address, IPv6Address) and address.scope_id is None and len(sockaddr) == 4 and sockaddr[3]:
        return IPv6Address(f"{address}%{sockaddr[3]}")
    return address


class PinnedResolver:
    """Answers pinned names itself and asks `fallback` for all others (`--resolve NAME=ADDRESS`)."""

    def __init__(self, pins: Mapping[str, Addresses], fallback: Resolver) -> None:
        self._pins = pins
        self._fallback = fallback

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        """The pinned addresses, or what the fallback answers. Raises `ResolutionFailed`."""
        if pinned := self._pins.get(name):
            return pinned
        return await self._fallback.resolve(name, port)


def parse_pin(text: str) -> tuple[str, IPAddress]:
    """`NAME=ADDRESS` as canonical name and address. Raises `ValueError` that says what to write instead."""
    name, equals, address = text.partition("=")
    try:
        host = parse_host(name)
        if not equals:
            raise InvalidHost("an address is missing")
        if host.is_literal:
            raise InvalidHost("an address is never looked up")
        return host.text, ip_address(address.strip().removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise ValueError(
            f"--resolve {text!r}: {error}; write NAME=ADDRESS, such as api.example.com=127.0.0.1"
        ) from None


def parse_pins(texts: Iterable[str]) -> dict[str, Addresses]:
    """All pins together; a name given more than once has all its addresses, in that order. Raises `ValueError`."""
    pins: dict[str, Addresses] = {}
    for name, address in map(parse_pin, texts):
        pins[name] = tuple(dict.fromkeys((*pins.get(name, ()), address)))
    return pins
