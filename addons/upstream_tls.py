"""TLS towards origins, as the engine does it, without the engine's own certificate authority."""

from __future__ import annotations

from typing import Any

from mitmproxy.addons.tlsconfig import TlsConfig

_FOR_ITS_OWN_AUTHORITY = frozenset({"certs", "confdir", "key_size", "cert_passphrase"})


class UpstreamTls(TlsConfig):
    """Takes the place of the engine's `tlsconfig` in a master of ours.

    The engine's makes an RSA authority in its configuration directory at each first start, would show certificates
    of it to clients, and answers a magic path of every origin by itself. Here clients are served by
    `TlsCertificates` alone, and what it does not serve is closed.
    """

    name = "tlsconfig"

    def tls_start_client(self, tls_start: Any) -> None:
        """Leaves the connection as `TlsCertificates` left it."""

    def quic_start_client(self, tls_start: Any) -> None:
        """No certificate, so no QUIC towards clients."""

    def request(self, flow: Any) -> None:
        """No revocation list is served: there is nothing on it."""

    def running(self) -> None:
        """Nothing is left to configure."""

    def configure(self, updated: set[str]) -> None:
        super().configure(updated - _FOR_ITS_OWN_AUTHORITY)  # type: ignore[no-untyped-call]
