"""The machine's own names (`/etc/hosts`), read here because absolute names do not find them in the C library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from codex_network_proxy.policy.decision import IPAddress

HOSTS_FILE = Path("/etc/hosts")

_Signature = tuple[int, int, int]
_Table = dict[str, tuple[IPAddress, ...]]


class HostsFile:
    """Answers from the hosts file, read again when it has changed. Blocks on the disk: call it in a thread."""

    def __init__(self, path: Path = HOSTS_FILE) -> None:
        self._path = path
        self._read: tuple[_Signature | None, _Table] = (None, {})

    def __call__(self, name: str) -> tuple[IPAddress, ...]:
        """All addresses of the canonical name, in file order; none when the file does not know it."""
        try:
            signature = self._signature()
            if signature != self._read[0]:
                self._read = (signature, parse_hosts(self._path.read_text("utf-8", errors="replace")))
        except OSError:
            return ()
        return self._read[1].get(name, ())

    def _signature(self) -> _Signature:
        there = os.stat(self._path)
        return there.st_mtime_ns, there.st_size, there.st_ino


def parse_hosts(text: str) -> _Table:
    """Name to addresses. Lines that make no sense are skipped, as the C library does."""
    table: _Table = {}
    for address, names in _entries(text):
        for name in names:
            key = name.lower().rstrip(".")
            table[key] = tuple(dict.fromkeys((*table.get(key, ()), address)))
    return table


def _entries(text: str) -> Iterator[tuple[IPAddress, list[str]]]:
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        try:
            yield ip_address(words[0]), words[1:]
        except (IndexError, ValueError):
            continue
