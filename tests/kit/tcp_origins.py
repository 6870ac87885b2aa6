"""Origins that do not speak HTTP: what a tunnel must carry without understanding it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from .server import PATIENCE, RecordingStream, Server

Behaviour = Callable[[RecordingStream], None]
BANNER = b"220 mail.test ready\r\n"


class TcpOrigin(Server):
    """Talks to each client as `behaviour` says, then closes."""

    def __init__(self, behaviour: Behaviour, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        super().__init__(host, tls)
        self.behaviour = behaviour

    def serve(self, stream: RecordingStream) -> None:
        self.behaviour(stream)


def echo_bytes(stream: RecordingStream) -> None:
    while data := stream.some():
        stream.sock.sendall(data)


def banner_first(stream: RecordingStream) -> None:
    """Speaks before the client does, as SMTP and MySQL servers do; then echoes."""
    stream.sock.sendall(BANNER)
    echo_bytes(stream)


def count_then_answer(stream: RecordingStream) -> None:
    """Reads until the client says it is done, then answers: only half-close makes this work."""
    stream.sock.sendall(b"%d bytes" % len(stream.rest()))


def answer_then_listen(stream: RecordingStream) -> None:
    """Says its part and half-closes, then reads on until the client is done."""
    stream.sock.sendall(b"all said")
    stream.sock.shutdown(socket.SHUT_WR)
    stream.rest()


def talk_on(stream: RecordingStream) -> None:
    """Sends until the connection breaks, and never listens."""
    while not stream.recorder.stopping.is_set():
        stream.sock.sendall(bytes(1 << 16))


def never_read(stream: RecordingStream) -> None:
    """Takes the connection and no byte, until the origin stops."""
    stream.recorder.stopping.wait(PATIENCE)
