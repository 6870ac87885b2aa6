"""Loaded by every Python process under test: its names come from a table, and nothing leaves the machine.

`KIT_WORLD` names a folder. `names.json` there maps a name to a list of answers; each look-up uses the next one
and the last one stays. An answer is a list of addresses, empty for "no such name", or the word "hang".
Look-ups, dials and binds of the process are appended to `log.jsonl`. Dials to other machines fail.
"""

from __future__ import annotations

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
        addresses = [address for address in self.answer(str(name)) if family in (0, kind(address))]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name in the test's world")
        return [row for address in addresses for row in self.real(address, port, family, type, proto, flags)]

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("socket.connect", "socket.bind") or not isinstance(arguments[1], tuple):
            return
        host, port = arguments[1][:2]
        self.note(event=event.removeprefix("socket."), host=str(host), port=port)
        address = literal(str(host).partition("%")[0])
        if event == "socket.connect" and (address is None or not mapped(address).is_loopback):
            raise OSError(101, "the test's world ends at loopback")


def kind(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return getattr(address, "ipv4_mapped", None) or address


if FOLDER is not None:
    world = World(FOLDER)
    socket.getaddrinfo = world.getaddrinfo
    sys.addaudithook(world.watch)
