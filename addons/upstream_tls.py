"""TLS towards origins, without the engine's own certificate authority, against the roots of the client's own proxy."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import certifi
from mitmproxy import ctx
from mitmproxy.addons.tlsconfig import _DEFAULT_CIPHERS, DEFAULT_HOSTFLAGS, TlsConfig
from mitmproxy.connection import Client, Server
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from .sessions import session_of

CONTEXT_LIMIT = 16
"""Bundles of roots whose contexts are kept; making one reads some 150 certificates."""

_FOR_ITS_OWN_AUTHORITY = frozenset({"certs", "confdir", "key_size", "cert_passphrase"})
_Key = tuple[Path, int, int, int]


class UpstreamTls(TlsConfig):
    """Takes the place of the engine's `tlsconfig` in a master of ours.

    The engine's makes an RSA authority in its configuration directory at each first start, would show certificates
    of it to clients, answers a magic path of every origin by itself, and knows one set of roots. Here clients are
    served by `TlsCertificates` alone, and what it does not serve is closed.
    """

    name = "tlsconfig"

    def __init__(self) -> None:
        self._contexts: OrderedDict[_Key, SSL.Context] = OrderedDict()

    def tls_start_server(self, data: TlsData) -> None:
        """Asks for the origin's certificate under the name that was decided on; any other ends the connection."""
        client, server = data.context.client, data.conn
        assert isinstance(server, Server)
        assert server.address
        assert not data.is_dtls
        session = session_of(client.id)
        if session is None or session.tenant is None:
            return  # nobody's: without a connection from here the engine closes it
        server.sni = server.sni or client.sni or server.address[0]
        server.alpn_offers = server.alpn_offers or _protocols(client)
        connection = SSL.Connection(self._context(session.tenant.tls.upstream_bundle or Path(certifi.where())))
        _expect(connection, server.sni)
        if server.alpn_offers:
            connection.set_alpn_protos(list(server.alpn_offers))
        connection.set_connect_state()
        data.ssl_conn = connection

    def _context(self, roots: Path) -> SSL.Context:
        state = roots.stat()
        key = roots, state.st_mtime_ns, state.st_size, state.st_ino
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = client_context(roots)
        self._contexts.move_to_end(key)
        if len(self._contexts) > CONTEXT_LIMIT:
            self._contexts.popitem(last=False)
        return context

    def tls_start_client(self, tls_start: Any) -> None:
        """Leaves the connection as `TlsCertificates` left it."""

    def quic_start_client(self, tls_start: Any) -> None:
        """No certificate, so no QUIC towards clients."""

    def quic_start_server(self, tls_start: Any) -> None:
        """Nothing asks for QUIC towards origins."""

    def request(self, flow: Any) -> None:
        """No revocation list is served: there is nothing on it."""

    def running(self) -> None:
        """Nothing is left to configure."""

    def configure(self, updated: set[str]) -> None:
        super().configure(updated - _FOR_ITS_OWN_AUTHORITY)  # type: ignore[no-untyped-call]


def client_context(roots: Path) -> SSL.Context:
    """TLS 1.2 and 1.3 with the engine's ciphers; the origin must prove itself. Raises `SSL.Error`."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION)
    context.set_cipher_list(":".join(_DEFAULT_CIPHERS).encode())
    context.set_verify(SSL.VERIFY_PEER, None)
    context.load_verify_locations(str(roots))
    return context


def _protocols(client: Client) -> tuple[bytes, ...]:
    """What the client offered: an origin is spoken to in the version that the client speaks, where it can."""
    return tuple(offer for offer in client.alpn_offers if offer != b"h2" or ctx.options.http2)


def _expect(connection: SSL.Connection, name: str) -> None:
    """Verification under this name or address, as the engine does it; pyOpenSSL has no call for it."""
    lib: Any = SSL._lib  # type: ignore[attr-defined]  # the engine's way, too
    param = lib.SSL_get0_param(connection._ssl)
    lib.X509_VERIFY_PARAM_set_hostflags(param, DEFAULT_HOSTFLAGS)
    try:
        packed = ip_address(name).packed
    except ValueError:
        host = name.encode("ascii")
        connection.set_tlsext_host_name(host)
        ok = lib.X509_VERIFY_PARAM_set1_host(param, host, len(host))
    else:
        ok = lib.X509_VERIFY_PARAM_set1_ip(param, packed, len(packed))
    if ok != 1:
        raise ValueError("the origin's name cannot be verified")
