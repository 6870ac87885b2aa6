"""A connection to an upstream proxy that is read and written with `await`: a plain socket, or TLS over one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

CHUNK = 64 * 1024
"""Bytes that are read at once."""


class PlainPipe:
    """A connected non-blocking socket that somebody else may own afterwards."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self, size: int = CHUNK) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.sock, size)

    def close(self) -> None:
        self.sock.close()


class TlsPipe:
    """One TLS connection as a client, on a connected non-blocking socket that it owns.

    One task may receive while another one sends.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._sending = asyncio.Lock()
        self._drained = False  # nothing that arrived waits to be received
        self._ending = False

    async def handshake(self) -> None:
        """Raises `ssl.SSLError`, also for a certificate that does not hold, and `OSError`."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                await self._flush()  # the alert that says why
                raise
        await self._flush()

    async def send(self, data: bytes) -> None:
        """Returns when everything is on its way."""
        self._tls.write(data)
        await self._flush()

    async def receive(self, size: int = CHUNK) -> bytes:
        """At most `size` bytes, empty at the end of the stream."""
        while True:
            try:
                data = self._tls.read(size)
            except ssl.SSLWantReadError:
                self._all_taken()
                await self._flush_unless_sending()
                await self._fill()
                continue
            except ssl.SSLEOFError:  # closed without a word, as many do
                data = b""
            if not data:
                self._all_taken()
            await self._flush_unless_sending()  # reading may have made an answer necessary
            return data

    async def end(self) -> None:
        """Says that no more will be sent, and still receives."""
        self._ending = True
        if self._drained:
            self._say_end()
        await self._flush()

    def close(self) -> None:
        """Closes the socket. Harmless when called again."""
        self._sock.close()

    def _all_taken(self) -> None:
        self._drained = True
        if self._ending:
            self._say_end()

    def _say_end(self) -> None:
        # Only now: OpenSSL looks for the peer's own end at once, and would trip over data that was not taken yet.
        self._ending = False
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()

    async def _fill(self) -> None:
        data = await self._loop.sock_recv(self._sock, CHUNK)
        self._drained = False
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush_unless_sending(self) -> None:
        """Who is sending takes along what there is; a peer that waits to be read first would wait for ever."""
        if not self._sending.locked():
            await self._flush()

    async def _flush(self) -> None:
        async with self._sending:
            while data := self._outgoing.read():
                await self._loop.sock_sendall(self._sock, data)


Pipe = PlainPipe | TlsPipe


def client_context(bundle: Path) -> ssl.SSLContext:
    """Verifies name and certificate against the roots in `bundle`, as strictly as origins are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)
    context.set_alpn_protocols(["http/1.1"])
    return context
