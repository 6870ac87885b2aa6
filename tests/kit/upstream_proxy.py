"""A second proxy, behind the one under test: knows every name, and remembers what it was asked."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from functools import partial
from urllib.parse import urlsplit

from .hooks import API, Hook, Inject, inspecting
from .server import RecordingStream, Server
from .wire import Head, Stream, parse_head, read_head, read_response

PASSWORD = "upstream-canary"
LOGIN = f"agent:{PASSWORD}"
PAST = "past.allowed.test"
IPV6 = "2606:2800::1"
POLICY = inspecting(Hook(API, inject=(Inject(),)), allowed=("**.test", "127.0.0.1", "::1", "localhost", IPV6))
"""What a company's proxies are tested with: one hook, and every way to spell a host."""

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
WANTS_LOGIN = b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 5\r\n\r\nwho?\n"
HOP = ("proxy-authorization", "connection", "keep-alive", "transfer-encoding")


class UpstreamProxyServer(Server):
    """An HTTP proxy to whom every name is this machine. With `login` (`user:password`) it serves nobody else."""

    name = "upstream proxy"

    def __init__(self, login: str | None = None, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        super().__init__(host, tls)
        self._login = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def requests(self) -> list[Head]:
        return [parse_head(raw) for raw in self.recorder.heads]

    @property
    def asked(self) -> list[str]:
        """Method and target of each request, in order."""
        return [head.start.rpartition(" ")[0] for head in self.requests]

    def serve(self, stream: RecordingStream) -> None:
        while True:
            head = read_head(stream)
            self.recorder.note(partial(stream.connection.heads.append, head.raw))
            method, target, _ = head.start.split(" ")
            if self._login and head.get("proxy-authorization") != self._login:
                stream.sock.sendall(WANTS_LOGIN)
            elif method == "CONNECT":
                self._tunnel(stream, int(target.rpartition(":")[2]))
                return
            else:
                self._forward(stream, head, method, target)

    def _forward(self, stream: RecordingStream, head: Head, method: str, target: str) -> None:
        """One request in absolute form, and its whole answer."""
        slash, path = target.partition("://")[2].partition("/")[1:]
        fields = [f"{name}: {value}" for name, value in head.fields if name.lower() not in HOP]
        body = stream.exactly(int(head.get("content-length") or 0))
        with _dial(urlsplit(target).port or 80) as origin:
            lines = [f"{method} {slash}{path} HTTP/1.1", *fields, "Connection: close", "", ""]
            origin.sendall("\r\n".join(lines).encode() + body)
            answer = read_response(Stream(origin), method)
        kept = [
            f"{name}: {value}" for name, value in answer.head.fields if name.lower() not in (*HOP, "content-length")
        ]
        lines = [
            answer.head.start,
            *kept,
            "via: kit",
            "connection: keep-alive",
            f"content-length: {len(answer.body)}",
            "",
            "",
        ]
        stream.sock.sendall("\r\n".join(lines).encode() + answer.body)

    def _tunnel(self, stream: RecordingStream, port: int) -> None:
        try:
            origin = _dial(port)
        except OSError:
            stream.sock.sendall(b"HTTP/1.1 502 Nobody there\r\nContent-Length: 0\r\n\r\n")
            return
        with origin:
            stream.sock.sendall(ESTABLISHED)
            back = threading.Thread(target=_copy_back, args=(origin, stream.sock), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := stream.some():
                    origin.sendall(data)
                origin.shutdown(socket.SHUT_WR)
            back.join()


def _dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def _copy_back(origin: socket.socket, client: socket.socket) -> None:
    # Python's TLS sockets have no half-close.
    end = socket.SHUT_RDWR if isinstance(client, ssl.SSLSocket) else socket.SHUT_WR
    with contextlib.suppress(OSError):
        while data := origin.recv(1 << 16):
            client.sendall(data)
    with contextlib.suppress(OSError):
        client.shutdown(end)


def behind(upstream: UpstreamProxyServer, login: str | None = LOGIN, **more: str) -> dict[str, str]:
    """What a company puts into the environment."""
    url = f"{'https' if upstream.tls else 'http'}://{login + '@' if login else ''}{upstream.address}"
    return {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": PAST, **more}
