"""Does the client trust our CA? When it does not, one line says what to set for that tool (spec B6.3)."""

from __future__ import annotations

import logging

from mitmproxy import connection, http, tls

from .interception import Interception
from .sessions import Session, session_of

logger = logging.getLogger("codex_network_proxy")

_FIXES = (
    ("curl", "CURL_CA_BUNDLE={bundle} (or curl --cacert {bundle})"),
    ("git", "GIT_SSL_CAINFO={bundle}"),
    ("python-requests", "REQUESTS_CA_BUNDLE={bundle}"),
    ("pip", "PIP_CERT={bundle}"),
    ("python", "SSL_CERT_FILE={bundle}"),
    ("node", "NODE_EXTRA_CA_CERTS={ca}"),
    ("npm", "NPM_CONFIG_CAFILE={bundle}"),
    ("undici", "NODE_EXTRA_CA_CERTS={ca}"),
    ("cargo", "CARGO_HTTP_CAINFO={bundle}"),
    ("go-http", "SSL_CERT_FILE={bundle}"),
    ("java", "-Djavax.net.ssl.trustStore with {ca} imported (keytool -importcert)"),
)
_ANY = "SSL_CERT_FILE={bundle} (Node: NODE_EXTRA_CA_CERTS={ca}, git: GIT_SSL_CAINFO={bundle})"

_REASONS = (
    ("unknown ca", "unknown ca"),
    ("certificate unknown", "certificate unknown"),
    ("bad certificate", "bad certificate"),
    ("certificate expired", "certificate expired"),
    ("protocol version", "protocol version"),
    ("unsupported protocol", "protocol version"),
    ("no shared cipher", "no shared cipher"),
    ("disconnected", "closed early"),
    ("closed", "closed early"),
)
"""What the engine's text about a failed handshake contains, and the words for the log line."""


class ClientTrust:
    """Notices clients that hang up because of our certificate, during the handshake or right after it."""

    name = "codex-client-trust"

    def tls_failed_client(self, data: tls.TlsData) -> None:
        self._tell(session_of(data.conn.id), reason_of(data.conn.error))

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if session := session_of(flow.client_conn.id):
            session.spoke = True

    def client_disconnected(self, client: connection.Client) -> None:
        """GnuTLS finishes the handshake before it looks at the certificate, and then leaves without a word."""
        session = session_of(client.id)
        if client.tls_established and session and not session.spoke:
            self._tell(session, "closed without a request")

    def _tell(self, session: Session | None, reason: str) -> None:
        interception = session.interception if session else None
        if session is None or session.tunnel is None or interception is None:
            return
        session.spoke = True  # once is enough
        logger.warning(
            "TLS with the client failed (client=%s, host=%s, reason=%s): if it does not trust the proxy's CA, set %s",
            session.client_address,
            session.tunnel.request.host,
            reason,
            fix_for(session.user_agent, interception),
        )


def reason_of(error: str | None) -> str:
    """Why the handshake failed, in a few words of our own."""
    text = (error or "").lower()
    return next((words for mark, words in _REASONS if mark in text), "handshake failed")


def fix_for(user_agent: str | None, interception: Interception) -> str:
    """What to set so that this tool trusts the CA, by the name it gave in its CONNECT."""
    name = (user_agent or "").lower()
    fix = next((fix for prefix, fix in _FIXES if name.startswith(prefix)), _ANY)
    return fix.format(bundle=interception.child_bundle, ca=interception.ca)
