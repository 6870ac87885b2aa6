"""Does the client trust our CA? When it does not, one line says what to set for that tool (spec B6.3)."""

from __future__ import annotations

import logging
from typing import Protocol

from mitmproxy import tls

from codex_network_proxy.policy.text import printable

from .interception import Interception
from .sessions import session_of

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


class HasInterception(Protocol):
    @property
    def interception(self) -> Interception | None: ...


class ClientTrust:
    """Notices clients that end the handshake because of our certificate."""

    name = "codex-client-trust"

    def __init__(self, settings: HasInterception) -> None:
        self._settings = settings

    def tls_failed_client(self, data: tls.TlsData) -> None:
        session, interception = session_of(data.conn.id), self._settings.interception
        if session is None or session.tunnel is None or interception is None:
            return
        logger.warning(
            "TLS with the client failed (client=%s, host=%s, %s): if it does not trust the proxy's CA, set %s",
            session.client_address,
            session.tunnel.request.host,
            _reason(data.conn.error),
            fix_for(session.user_agent, interception),
        )


def _reason(error: str | None) -> str:
    """OpenSSL's word for what the client said, such as `tlsv1 alert unknown ca`."""
    words = (error or "").rpartition("(")[2].rstrip(")")
    return f"reason={printable(words, 80)}" if words else "reason=unknown"


def fix_for(user_agent: str | None, interception: Interception) -> str:
    """What to set so that this tool trusts the CA, by the name it gave in its CONNECT."""
    name = (user_agent or "").lower()
    fix = next((fix for prefix, fix in _FIXES if name.startswith(prefix)), _ANY)
    return fix.format(bundle=interception.child_bundle, ca=interception.ca)
