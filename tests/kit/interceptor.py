"""A proxy that intercepts whatever it is asked for, with the product's certificates and nothing else of it."""

from __future__ import annotations

import socket
import threading

from OpenSSL import SSL

from codex_network_proxy.addons.ca_files import CertificateAuthority
from codex_network_proxy.addons.leaf_certificates import LeafCertificates
from codex_network_proxy.addons.tls_context import server_context
from codex_network_proxy.policy.hosts import parse_host

REFS = b"0123456789012345678901234567890123456789\trefs/heads/main\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(REFS), REFS)


class Interceptor:
    """Answers every CONNECT by intercepting it, with the context that the product serves."""

    def __init__(self, authority: CertificateAuthority) -> None:
        self._leaves = LeafCertificates(authority)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.versions: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(10)
            with client:
                self._intercept(client)

    def _intercept(self, client: socket.socket) -> None:
        head = b""
        try:
            while b"\r\n\r\n" not in head:
                head += client.recv(1) or b"\r\n\r\n"
            if not head.startswith(b"CONNECT "):
                return
            # Not `parse_endpoint`: some releases of Python send IPv6 without brackets.
            host = parse_host(head.split()[1].decode().rpartition(":")[0])
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            client.settimeout(None)
            self._answer(SSL.Connection(server_context(self._leaves.for_host(host)), client))
        except (OSError, SSL.Error):
            return  # the client did not like the certificate: it says so itself

    def _answer(self, connection: SSL.Connection) -> None:
        connection.set_app_data((None, False))
        connection.set_accept_state()
        connection.do_handshake()
        self.versions.append(connection.get_protocol_version_name())
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        connection.sendall(ANSWER)
        connection.shutdown()
