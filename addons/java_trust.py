"""The roots of `ca-bundle.pem` as a trust store for Java, which reads no PEM file."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from codex_network_proxy.policy.child_env import JAVA_PASSWORD

from .private_files import replace_whole

logger = logging.getLogger("codex_network_proxy")

STORE = "ca-bundle.p12"


def write_java_roots(bundle: Path) -> Path | None:
    """Writes the store beside the bundle, unless it is newer than that; `None`, with a warning, when it cannot."""
    store = bundle.with_name(STORE)
    try:
        if not store.is_file() or store.stat().st_mtime_ns < bundle.stat().st_mtime_ns:
            replace_whole(store, java_store(bundle.read_bytes()), 0o644)
    except (OSError, ValueError, AttributeError) as error:  # the last with an older cryptography
        logger.warning("no trust store for Java (%s)", type(error).__name__)
        return None
    return store


def java_store(bundle: bytes) -> bytes:
    """Every certificate of a PEM bundle in a PKCS #12 store, marked as trusted in the way Java wants it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old roots have oddities that cryptography announces to take offence at
        roots = x509.load_pem_x509_certificates(bundle)
    certificates = [pkcs12.PKCS12Certificate(root, b"root-%d" % number) for number, root in enumerate(roots)]
    return pkcs12.serialize_java_truststore(certificates, BestAvailableEncryption(JAVA_PASSWORD.encode()))
