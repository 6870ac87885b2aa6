"""Loaded by every Python process under test: its names come from a table, and nothing leaves the machine.

`KIT_WORLD` names a folder. `names.json` there maps a name to a list of answers; each look-up uses the next one
and the last one stays. An answer is a list of addresses, empty for "no such name", or the word "hang".
Look-ups, dials and binds of the process are appended to `log.jsonl`. Dials to other machines fail.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["KIT_WORLD"]) if "KIT_WORLD" in os.environ else None
HANG = threading.Event()


def literal(text: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(str(text))
    except ValueError:
        return None


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: dict[str, int] = {}
        self.real = socket.getaddrinfo
        self.log = os.open(folder / "log.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.note(event="start", host=" ".join(sys.orig_argv[:4]))

    def note(self, **values: object) -> None:
        os.write(self.log, json.dumps({"pid": os.getpid(), **values}).encode() + b"\n")

    def answer(self, name: str) -> list[str]:
        self.note(event="lookup", host=name)
        answers = json.loads((self.folder / "names.json").read_text()).get(name, [[]])
        turn = self.asked[name] = self.asked.get(name, -1) + 1
        found = answers[min(turn, len(answers) - 1)]
        if found == "hang":
            HANG.wait()
        return list(found)

    def getaddrinfo(self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or literal(str(name).partition("%")[0]) or name == "localhost" or flags & socket.AI_PASSIVE:
            return self.real(host, port, family, type, proto, flags)
        # A final dot only says that the name is absolute.
        addresses = [address for address in self.answer(str(name).rstrip(".")) if family in (0, kind(address))]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name in the test's world")
        return [row for address in addresses for row in self.real(address, port, family, type, proto, flags)]

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.bind" and isinstance(arguments[1], tuple):
            self.note(event="bind", host=str(arguments[1][0]), port=arguments[1][1])
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg") and self.is_far(arguments[1]):
            raise OSError(errno.ENETUNREACH, "a dial that went around the test's world")

    def dialled(self, address: object) -> bool:
        """Notes the dial; whether it stays on this machine."""
        if isinstance(address, tuple):
            self.note(event="connect", host=str(address[0]), port=address[1])
        elif isinstance(address, str):
            self.note(event="connect to socket", host=address)
        return not self.is_far(address)

    def is_far(self, address: object) -> bool:
        if not isinstance(address, tuple):
            return False
        found = literal(str(address[0]).partition("%")[0])
        return found is None or not mapped(found).is_loopback


def fence(world: World) -> None:
    """Dials beyond loopback fail as they do on a machine without a network."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def fenced_connect(sock: socket.socket, address: Any) -> None:
        if not world.dialled(address):
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        connect(sock, address)

    def fenced_connect_ex(sock: socket.socket, address: Any) -> int:
        return connect_ex(sock, address) if world.dialled(address) else errno.ENETUNREACH

    setattr(socket.socket, "connect", fenced_connect)  # noqa: B010 - mypy refuses to assign a method
    setattr(socket.socket, "connect_ex", fenced_connect_ex)  # noqa: B010 - as above


def kind(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return getattr(address, "ipv4_mapped", None) or address


if FOLDER is not None:
    world = World(FOLDER)
    socket.getaddrinfo = world.getaddrinfo
    fence(world)
    sys.addaudithook(world.watch)
