"""The managed certificate authority: `$CODEX_HOME/proxy/ca.pem` and `ca.key` (spec A7, B6.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from .private_files import (
    GROUP_OR_WORLD,
    WRITABLE_BY_OTHERS,
    FileRefused,
    create_once,
    ensure_private_directory,
    exclusive,
    read_vetted,
)

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "network_proxy MITM CA")])
VALID_FOR = timedelta(days=3652)
CLOCKS_MAY_BE_OFF_BY = timedelta(days=1)
WARN_BEFORE_EXPIRY = timedelta(days=30)
KEY, CERTIFICATE, DIRECTORY = "managed MITM CA key", "managed MITM CA certificate", "managed MITM CA directory"

CaKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
logger = logging.getLogger("codex_network_proxy")


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A certificate that may sign others, with its key, and the file that clients are told to trust."""

    certificate: x509.Certificate
    key: CaKey = field(repr=False)
    path: Path


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: Path
    key: Path

    def read(self) -> tuple[bytes | None, bytes | None]:
        key = read_vetted(self.key, KEY, forbidden=GROUP_OR_WORLD, complaint="group/world accessible", expected=0o600)
        certificate = read_vetted(
            self.certificate, CERTIFICATE, forbidden=WRITABLE_BY_OTHERS, complaint="writable by others", expected=0o644
        )
        return certificate, key


def proxy_directory(codex_home: Path) -> Path:
    """`$CODEX_HOME/proxy`, made or vetted: 0700 and ours. Raises `FileRefused`."""
    directory = codex_home / "proxy"
    try:
        ensure_private_directory(directory, DIRECTORY)
    except OSError as error:
        raise FileRefused(f"cannot use {DIRECTORY} {directory}: {error.strerror}") from None
    return directory


def load_or_create(
    codex_home: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> CertificateAuthority:
    """The authority of this `CODEX_HOME`, made on first use and never overwritten. Raises `FileRefused`.

    Processes that start at the same moment end with the same pair.
    """
    directory = proxy_directory(codex_home)
    pair = _Pair(directory / "ca.pem", directory / "ca.key")
    certificate, key = pair.read()
    if certificate is None or key is None:
        certificate, key = _read_or_create(pair, now())
    return _parse(pair, certificate, key, now())


def _read_or_create(pair: _Pair, now: datetime) -> tuple[bytes, bytes]:
    """Under the lock, half a pair is a leftover and not another process at work."""
    try:
        with exclusive(pair.key.with_name(".ca.lock")):
            if pair.read() == (None, None):
                _create(pair, now)
            certificate, key = pair.read()
    except OSError as error:
        raise FileRefused(f"cannot create {KEY} {pair.key}: {error.strerror}") from None
    if certificate is None or key is None:
        present = pair.key if certificate is None else pair.certificate
        raise FileRefused(
            f"both managed MITM CA files must exist (cert={pair.certificate}, key={pair.key}); "
            f"restore the missing one, or remove {present} to have a new pair made"
        )
    return certificate, key


def _create(pair: _Pair, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key, now)
    create_once(pair.key, _key_pem(key), 0o600)
    try:
        create_once(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except BaseException:
        pair.key.unlink(missing_ok=True)
        raise


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """RFC 5280 section 4.2 as the strict verifiers read it: key identifiers present, constraints critical."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    start = now - CLOCKS_MAY_BE_OFF_BY
    return (
        x509.CertificateBuilder(NAME, NAME, key.public_key(), x509.random_serial_number(), start, start + VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_ca_key_usage(), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(issuer, critical=False)
        .sign(key, hashes.SHA256())
    )


def _ca_key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _parse(pair: _Pair, certificate_pem: bytes, key_pem: bytes, now: datetime) -> CertificateAuthority:
    key = _parse_key(pair, key_pem)
    certificate = _parse_certificate(pair, certificate_pem)
    if certificate.public_key() != key.public_key():
        raise FileRefused(f"{CERTIFICATE} {pair.certificate} does not belong to {pair.key}; {_start_over(pair)}")
    _check_may_sign(pair, certificate)
    _check_dates(pair, certificate, now)
    return CertificateAuthority(certificate, key, pair.certificate)


def _start_over(pair: _Pair) -> str:
    return f"remove both {pair.certificate} and {pair.key} to have a new pair made, which clients must then trust"


def _parse_key(pair: _Pair, pem: bytes) -> CaKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The parser's own words could echo what the file holds.
        raise FileRefused(f"failed to parse CA key {pair.key}; {_start_over(pair)}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise FileRefused(f"failed to parse CA key {pair.key}: neither ECDSA nor RSA; {_start_over(pair)}")
    return key


def _parse_certificate(pair: _Pair, pem: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.public_key()
        _ = certificate.extensions
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise FileRefused(f"failed to parse CA cert {pair.certificate}; {_start_over(pair)}") from None
    return certificate


def _check_may_sign(pair: _Pair, certificate: x509.Certificate) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as missing:
        raise FileRefused(f"{CERTIFICATE} {pair.certificate} has no {missing.oid._name}; {_start_over(pair)}") from None
    if not (constraints.ca and usage.key_cert_sign):
        raise FileRefused(f"{CERTIFICATE} {pair.certificate} may not sign other certificates; {_start_over(pair)}")


def _check_dates(pair: _Pair, certificate: x509.Certificate, now: datetime) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= ends:
        raise FileRefused(f"{CERTIFICATE} {pair.certificate} expired on {ends:%Y-%m-%d}; {_start_over(pair)}")
    if now < begins:
        start = f"{CERTIFICATE} {pair.certificate} is not valid before {begins:%Y-%m-%d}"
        raise FileRefused(f"{start}; set the clock, or {_start_over(pair)}")
    if ends - now < WARN_BEFORE_EXPIRY:
        logger.warning("%s %s expires on %s; %s", CERTIFICATE, pair.certificate, ends.date(), _start_over(pair))
