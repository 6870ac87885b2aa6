"""An OpenSSL context that serves one leaf certificate (spec B6.2)."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

from .leaf_certificates import Leaf

CIPHERS = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305"
"""For TLS 1.2, and all of them good enough for HTTP/2 (RFC 9113 appendix A). TLS 1.3 has its own."""
OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION


def server_context(leaf: Leaf) -> SSL.Context:
    """TLS 1.2 and 1.3 with this certificate, sent without its issuer: whoever trusts the issuer has it."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CIPHERS)
    context.set_options(OPTIONS)
    # Sessions are resumed from tickets, which cost no memory here.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_verify(SSL.VERIFY_NONE, None)
    context.set_alpn_select_callback(choose_protocol)
    context.use_certificate(leaf.certificate)
    context.use_privatekey(leaf.key)
    return context


def choose_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
    """The origin's choice where it is known, else HTTP/2 wherever it is offered, as servers do (RFC 7301 3.2)."""
    origin, http2 = connection.get_app_data()
    if origin == b"":
        return SSL.NO_OVERLAPPING_PROTOCOLS
    spoken = (b"h2", b"http/1.1") if http2 else (b"http/1.1",)
    if origin in offered and origin in spoken:
        return origin
    return next((protocol for protocol in spoken if protocol in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
