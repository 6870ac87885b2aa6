"""UDP services at the far end of the proxy: they keep every datagram, and answer as they are told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from .server import PATIENCE

LARGEST = 65_535
Answer = Callable[[bytes], bytes | None]
Address = tuple[str, int]


def echo(data: bytes) -> bytes:
    return data


def silence(data: bytes) -> None:
    """Takes everything and says nothing."""


class UdpOrigin:
    """A loopback UDP port of its own from construction on; use it as a context manager.

    `received` holds each datagram and who sent it.
    """

    def __init__(self, answer: Answer = echo, host: str = "127.0.0.1") -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((host, 0))
        self.host, self.port = self.sock.getsockname()[:2]
        self.received: list[tuple[bytes, Address]] = []
        self._answer = answer
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # A datagram of its own wakes the thread: closing the socket would not.
        self.sock.sendto(b"", self.sock.getsockname())
        self._thread.join(PATIENCE)
        self.sock.close()

    def _serve(self) -> None:
        own = self.sock.getsockname()
        while True:
            data, sender = self.sock.recvfrom(LARGEST)
            if sender == own:
                return
            with self._changed:
                self.received.append((data, sender[:2]))
                self._changed.notify_all()
            answer = self._answer(data)
            if answer is not None:
                self.sock.sendto(answer, sender)

    @property
    def payloads(self) -> list[bytes]:
        with self._changed:
            return [data for data, _ in self.received]

    def wait(self, count: int = 1) -> list[bytes]:
        """What has come, once there are `count` datagrams."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.received) >= count, PATIENCE), self.received
        return self.payloads


class DnsOrigin(UdpOrigin):
    """A name server: `records` maps names to IPv4 addresses; other names do not exist."""

    def __init__(self, records: Mapping[str, str]) -> None:
        self._records = records
        super().__init__(self._look_up)

    def _look_up(self, data: bytes) -> bytes:
        import dns.message
        import dns.rcode
        import dns.rrset

        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        name = query.question[0].name
        address = self._records.get(name.to_text(omit_final_dot=True))
        if address is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", address))
        return answer.to_wire()
