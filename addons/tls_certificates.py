"""TLS towards the client of an intercepted tunnel, with our certificate for the tunnel's target (spec A7, B6.2)."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

from mitmproxy import ctx
from mitmproxy.exceptions import AddonHalt
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from codex_network_proxy.policy.hosts import Host

from .leaf_certificates import Leaf, LeafCertificates
from .sessions import session_of
from .tls_context import server_context

CONTEXT_LIMIT = 256
"""Contexts kept; one holds about 20 kB of OpenSSL's memory."""

logger = logging.getLogger(__name__)


def tunnel_host(client_id: str) -> Host | None:
    """The host that was decided on for this client's tunnel: what the certificate names, whatever the SNI says."""
    session = session_of(client_id)
    return session.tunnel.request.target.host if session and session.tunnel else None


class TlsCertificates:
    """Whose name does the certificate bear? The tunnel target's: never the SNI's, never what the origin shows.

    Runs before the engine's own TLS addon, which leaves a connection alone that is already set up, so nothing of the
    engine's certificate store is used. Without an authority, a target or a certificate the tunnel is closed.
    """

    name = "codex-tls-certificates"

    def __init__(
        self, leaves: LeafCertificates | None = None, target_of: Callable[[str], Host | None] = tunnel_host
    ) -> None:
        self._leaves = leaves
        self._target_of = target_of
        self._contexts: OrderedDict[str, tuple[Leaf, SSL.Context]] = OrderedDict()
        self._http2 = True

    def use(self, leaves: LeafCertificates | None) -> None:
        """From now on certificates come from here; None while interception is off."""
        self._leaves = leaves
        self._contexts.clear()

    def configure(self, updated: set[str]) -> None:
        if "http2" in updated:
            self._http2 = ctx.options.http2

    def tls_start_client(self, data: TlsData) -> None:
        data.ssl_conn = None
        try:
            data.ssl_conn = self._connection(data)
        except Exception:
            logger.exception("no certificate could be made for an intercepted connection")
        if data.ssl_conn is None:
            # Stops the addons behind this one, or the engine would show a certificate of its own.
            raise AddonHalt

    def _connection(self, data: TlsData) -> SSL.Connection | None:
        host = self._target_of(data.conn.id)
        if host is None or self._leaves is None or data.is_dtls:
            return None
        connection = SSL.Connection(self._context(host, self._leaves.for_host(host)))
        connection.set_app_data((data.context.server.alpn, self._http2))
        connection.set_accept_state()
        return connection

    def _context(self, host: Host, leaf: Leaf) -> SSL.Context:
        """One context per host: making it costs more than all else here, and sessions are not resumed across hosts."""
        known = self._contexts.get(host.text)
        if known is None or known[0] is not leaf:
            known = self._contexts[host.text] = leaf, server_context(leaf)
        self._contexts.move_to_end(host.text)
        if len(self._contexts) > CONTEXT_LIMIT:
            self._contexts.popitem(last=False)
        return known[1]
