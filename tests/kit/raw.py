"""A client that sends exactly the bytes it is given."""

from __future__ import annotations

import socket
import ssl
from types import TracebackType
from typing import Self

from .wire import Ended, Response, Stream, read_response

TIMEOUT = 10.0

# Addresses that clients of this module have had.
_used: set[tuple[str, int]] = set()


def split_address(address: str) -> tuple[str, int]:
    """`127.0.0.1:80` or `[::1]:80` as `socket.connect` wants it."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def fresh_connection(address: str, timeout: float = TIMEOUT) -> socket.socket:
    """Comes from an address that no client had before: in an audit log that is shared, it names this one alone."""
    host, port = split_address(address)
    while True:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.bind((host, 0))
        own = sock.getsockname()[:2]
        if own not in _used:
            break
        sock.close()
    _used.add(own)
    sock.settimeout(timeout)
    sock.connect((host, port))
    return sock


class Client:
    """One TCP connection, new or already made. Every wait ends after `timeout` seconds with `TimeoutError`."""

    def __init__(self, address: str, timeout: float = TIMEOUT, sock: socket.socket | None = None) -> None:
        self.sock: socket.socket = sock or socket.create_connection(split_address(address), timeout)
        _used.add(self.sock.getsockname()[:2])
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(self.sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.sock.close()

    def send(self, data: bytes, step: int | None = None) -> None:
        """Sends all of `data`; with `step`, in pieces of that many bytes."""
        pieces = [data[at : at + step] for at in range(0, len(data), step)] if step else [data]
        for piece in pieces:
            self.sock.sendall(piece)

    def read(self, method: str = "GET") -> Response:
        return read_response(self.stream, method)

    def ask(self, data: bytes, method: str = "GET", step: int | None = None) -> Response:
        self.send(data, step)
        return self.read(method)

    def finish(self) -> None:
        """Says that nothing more comes; still reads."""
        self.sock.shutdown(socket.SHUT_WR)

    def ended(self) -> bool:
        return self.stream.ended()

    def start_tls(self, context: ssl.SSLContext, name: str | None) -> None:
        assert not self.stream.buffer, self.stream.buffer
        self.sock = context.wrap_socket(self.sock, server_hostname=name)
        self.stream = Stream(self.sock)

    @property
    def address(self) -> str:
        """Our own end, as the proxy sees it."""
        host, port = self.sock.getsockname()[:2]
        return f"{host}:{port}"


def exchange(address: str, data: bytes, method: str = "GET", step: int | None = None) -> Response:
    """One request on a connection of its own."""
    with Client(address) as client:
        return client.ask(data, method, step)


def attempt(address: str, data: bytes, method: str = "GET") -> Response | None:
    """The answer, or nothing when the connection was refused or cut."""
    try:
        return exchange(address, data, method)
    except (Ended, ConnectionError):
        return None


def get(url: str, *fields: str, version: str = "HTTP/1.1") -> bytes:
    """A GET in absolute form. The Host field follows the URL; `fields` come after it."""
    return request("GET", url, *fields, version=version)


def request(method: str, url: str, *fields: str, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    authority = url.partition("://")[2].partition("/")[0]
    lines = [f"{method} {url} {version}", f"Host: {authority}", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def connect(authority: str, *fields: str) -> bytes:
    """A CONNECT head."""
    return "\r\n".join([f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *fields, "", ""]).encode()
