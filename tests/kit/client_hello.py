"""The first bytes of TLS, taken apart: ClientHellos in odd pieces and with odd content (RFC 8446 section 4.1.2)."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from .raw import Client
from .wire import Stream

HANDSHAKE = 22
SERVER_NAME, PADDING, GREASE, ENCRYPTED_CLIENT_HELLO = 0, 21, 0x0A0A, 0xFE0D

Shape = Callable[[bytes], list[bytes]]


class TlsBytes:
    """TLS over a connected socket, with the ClientHello in our hands before it is sent. Stands in for a socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str | None) -> None:
        self.sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.hello = self._out.read()

    def finish_handshake(self) -> None:
        """Once the ClientHello is out: the rest. Raises what `ssl` raises, `SSLEOFError` when the other side ends."""
        self._wanting(self._tls.do_handshake)
        self._flush()

    def _wanting(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self.sock.recv(1 << 16)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()

    def _flush(self) -> None:
        if data := self._out.read():
            self.sock.sendall(data)

    def sendall(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def recv(self, count: int) -> bytes:
        return cast(bytes, self._wanting(lambda: self._tls.read(count)))

    def close(self) -> None:
        self.sock.close()


def shaken(client: Client, context: ssl.SSLContext, name: str | None, shape: Shape, before: bytes = b"") -> None:
    """Starts TLS on `client` with the ClientHello sent as the pieces that `shape` makes of it, behind `before`."""
    tls = TlsBytes(client.sock, context, name)
    pieces = shape(tls.hello)
    client.send(before + pieces[0])
    for piece in pieces[1:]:
        client.send(piece)
    if before:
        answer = client.read("CONNECT")
        assert answer.status == 200, answer
        tls._in.write(client.stream.buffer)
    tls.finish_handshake()
    client.sock = cast(socket.socket, tls)
    client.stream = Stream(client.sock)


def at_once(hello: bytes) -> list[bytes]:
    return [hello]


def byte_by_byte(hello: bytes) -> list[bytes]:
    return [hello[at : at + 1] for at in range(len(hello))]


def first_byte_alone(hello: bytes) -> list[bytes]:
    return [hello[:1], hello[1:]]


def records_of(size: int) -> Shape:
    """The same handshake message in more records, each with `size` bytes of it."""

    def shape(hello: bytes) -> list[bytes]:
        return [records(message(hello), size)]

    return shape


def message(hello: bytes) -> bytes:
    """The handshake message without its record layer."""
    assert hello[0] == HANDSHAKE
    assert len(hello) == 5 + int.from_bytes(hello[3:5])
    return hello[5:]


def records(handshake: bytes, size: int = 1 << 14) -> bytes:
    pieces = (handshake[at : at + size] for at in range(0, len(handshake), size))
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


def hello_for(name: str | None) -> bytes:
    """The ClientHello of an ordinary client, as a handshake message."""
    context = ssl.create_default_context()
    context.check_hostname = False
    with socket.socket() as unused:
        return message(TlsBytes(unused, context, name).hello)


def with_extension(handshake: bytes, kind: int, content: bytes, first: bool = False) -> bytes:
    """The message with one more extension. Nobody can finish such a handshake, but servers answer it."""
    at = _extensions(handshake)
    before, present = handshake[4:at], handshake[at + 2 :]
    extra = kind.to_bytes(2) + len(content).to_bytes(2) + content
    extensions = extra + present if first else present + extra
    body = before + len(extensions).to_bytes(2) + extensions
    return handshake[:1] + len(body).to_bytes(3) + body


def _extensions(handshake: bytes) -> int:
    """Where the extensions' length stands."""
    at = 4 + 2 + 32
    at += 1 + handshake[at]
    at += 2 + int.from_bytes(handshake[at : at + 2])
    return at + 1 + handshake[at]


def server_names(*names: bytes) -> bytes:
    """The content of a `server_name` extension."""
    entries = b"".join(b"\x00" + len(name).to_bytes(2) + name for name in names)
    return len(entries).to_bytes(2) + entries
