"""TLS towards the client of an intercepted tunnel, with our certificate for the tunnel's target (spec A7, B6.2)."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakKeyDictionary

from mitmproxy import ctx
from mitmproxy.exceptions import AddonHalt
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from codex_network_proxy.policy.hosts import Host

from .leaf_certificates import Leaf, LeafCertificates
from .sessions import session_of
from .tls_context import server_context

CONTEXT_LIMIT = 256
"""Contexts kept for one authority; one holds about 20 kB of OpenSSL's memory."""

Contexts = OrderedDict[str, tuple[Leaf, SSL.Context]]
Subject = tuple[Host, LeafCertificates]

logger = logging.getLogger("codex_network_proxy")


def subject_of(client_id: str) -> Subject | None:
    """The host that was decided on for this client's tunnel, whatever the SNI says, and who signs for it."""
    session = session_of(client_id)
    if session is None or session.tunnel is None or session.interception is None:
        return None
    return session.tunnel.request.target.host, session.interception.leaves


class TlsCertificates:
    """Whose name does the certificate bear? The tunnel target's: never the SNI's, never what the origin shows.

    Runs before the engine's own TLS addon, which leaves a connection alone that is already set up, so nothing of the
    engine's certificate store is used. Without an authority, a target or a certificate the tunnel is closed. Each
    client is shown certificates of its own proxy's authority.
    """

    name = "codex-tls-certificates"

    def __init__(self, subject_of: Callable[[str], Subject | None] = subject_of) -> None:
        self._subject_of = subject_of
        # Gone with the authority they were made under: a reload, or the end of a proxy, leaves none behind.
        self._contexts: WeakKeyDictionary[LeafCertificates, Contexts] = WeakKeyDictionary()
        self._http2 = True

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
        subject = self._subject_of(data.conn.id)
        if subject is None or data.is_dtls:
            return None
        connection = SSL.Connection(self._context(*subject))
        connection.set_app_data((data.context.server.alpn, self._http2))
        connection.set_accept_state()
        return connection

    def _context(self, host: Host, leaves: LeafCertificates) -> SSL.Context:
        """One context per host: making it costs more than all else here, and sessions are not resumed across hosts."""
        contexts, leaf = self._contexts.setdefault(leaves, OrderedDict()), leaves.for_host(host)
        known = contexts.get(host.text)
        if known is None or known[0] is not leaf:
            known = contexts[host.text] = leaf, server_context(leaf)
        contexts.move_to_end(host.text)
        if len(contexts) > CONTEXT_LIMIT:
            contexts.popitem(last=False)
        return known[1]
