"""One certificate per intercepted host, signed by the managed authority (spec A7, B6.2)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from codex_network_proxy.policy.hosts import Host

    from .ca_files import CertificateAuthority

VALID_FOR = timedelta(days=90)
CLOCKS_MAY_BE_OFF_BY = timedelta(days=2)
CACHE_LIMIT = 1024
COMMON_NAME_LIMIT = 64
"""Characters, RFC 5280 appendix A.1 `ub-common-name`."""


class AuthorityExpired(Exception):
    """The managed authority ended while the proxy ran: nothing it signs would be believed."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server certificate for exactly one host, and its key. `renew_at` is in seconds since the epoch."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    renew_at: float


class LeafCertificates:
    """Makes leaves on demand and keeps the most recently used.

    All leaves of a process share one key, which is never the authority's and never leaves memory. Not for use by
    several threads at once.
    """

    def __init__(
        self, authority: CertificateAuthority, *, limit: int = CACHE_LIMIT, now: Callable[[], float] = time.time
    ) -> None:
        self._authority = authority
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._always = _extensions_of_every_leaf(authority.certificate, self._key.public_key())
        self._limit = limit
        self._now = now
        self._leaves: OrderedDict[str, Leaf] = OrderedDict()

    def __len__(self) -> int:
        return len(self._leaves)

    def for_host(self, host: Host) -> Leaf:
        """The host's leaf, made or renewed when needed. Raises `AuthorityExpired`."""
        now = self._now()
        leaf = self._leaves.get(host.text)
        if leaf is not None and now < leaf.renew_at:
            self._leaves.move_to_end(host.text)
            return leaf
        leaf = self._make(host, now)
        self._leaves[host.text] = leaf
        self._leaves.move_to_end(host.text)
        if len(self._leaves) > self._limit:
            self._leaves.popitem(last=False)
        return leaf

    def _make(self, host: Host, now: float) -> Leaf:
        at = datetime.fromtimestamp(now, UTC)
        issuer = self._authority.certificate
        end = min(at + VALID_FOR, issuer.not_valid_after_utc)
        if end <= at:
            raise AuthorityExpired(f"{self._authority.path} expired on {end:%Y-%m-%d}")
        name = _name(host)
        subject = _subject(name)
        builder = x509.CertificateBuilder(
            issuer.subject,
            subject,
            self._key.public_key(),
            x509.random_serial_number(),
            max(at - CLOCKS_MAY_BE_OFF_BY, issuer.not_valid_before_utc),
            end,
        )
        # RFC 5280 section 4.2.1.6: the alternative name is critical when there is no other name.
        builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=not list(subject))
        for extension, critical in self._always:
            builder = builder.add_extension(extension, critical)
        return Leaf(
            certificate=builder.sign(self._authority.key, hashes.SHA256()),
            key=self._key,
            renew_at=now + (end - at).total_seconds() / 2,
        )


def _name(host: Host) -> x509.DNSName | x509.IPAddress:
    """The one name of the certificate. A zone id means something on one machine only and has no place in it."""
    if host.address is not None:
        return x509.IPAddress(ip_address(host.address.packed))
    return x509.DNSName(host.text)


def _subject(name: x509.DNSName | x509.IPAddress) -> x509.Name:
    text = str(name.value)
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if len(text) <= COMMON_NAME_LIMIT else [])


def _extensions_of_every_leaf(
    issuer: x509.Certificate, key: ec.EllipticCurvePublicKey
) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    return (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_server_key_usage(), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (_issuer_identifier(issuer), False),
    )


def _issuer_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Byte for byte the issuer's own identifier (RFC 5280 section 4.2.1.2), however it was computed."""
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _server_key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=False,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
