"""Bundles of trusted roots: for child environments, and for the engine's own connections (spec A6, A7)."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import ssl
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .ca_files import NAME, CertificateAuthority
from .private_files import FileRefused, replace_whole

PLATFORM_FILES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Ubuntu, Arch, Gentoo, NixOS
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),  # Fedora, RHEL
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # older RHEL
    Path("/etc/ssl/ca-bundle.pem"),  # openSUSE
    Path("/etc/ssl/cert.pem"),  # macOS, Alpine, the BSDs
)
REMEMBERED = 1024
"""Files, and certificates, that are not looked at twice: a reload finds the same roots, and so does the next proxy of a
program. Nobody is served while they are read."""
FILE_LIMIT = 16 << 20
"""Bytes read of one file of roots; a real one has a quarter of a MiB."""
CHILD_BUNDLE, UPSTREAM_BUNDLE = "ca-bundle.pem", "upstream-roots.pem"
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]*CERTIFICATE)-----(.*?)-----END \1-----", re.DOTALL)
_HEADER = b"# Written by codex-network-proxy at each start; changes made here are lost.\n"

logger = logging.getLogger("codex_network_proxy")


@dataclass(frozen=True, slots=True)
class TrustSources:
    """Where roots come from: files, then directories of files."""

    files: tuple[Path, ...]
    directories: tuple[Path, ...] = ()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> TrustSources:
        """The platform's file, certifi's, and the user's own `SSL_CERT_FILE` and `SSL_CERT_DIR`."""
        platform = [file for file in PLATFORM_FILES if file.is_file()][:1]
        own = [Path(name) for name in [environ.get("SSL_CERT_FILE")] if name]
        directories = [Path(name) for name in environ.get("SSL_CERT_DIR", "").split(os.pathsep) if name]
        return cls((*platform, Path(certifi.where()), *own), tuple(directories))


@dataclass(frozen=True, slots=True)
class _State:
    """What tells one file, and one state of it, from another without reading it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, file: Path) -> _State:
        """Through links. Raises `OSError`."""
        found = file.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def trusted_roots(directory: Path, authority: CertificateAuthority | None, sources: TrustSources) -> list[bytes]:
    """Every root once, DER, in the order found, without our own authority. What cannot be read is logged.

    A proxy started by a child of a proxy inherits a bundle that we wrote (in `directory`): there even an authority
    of ours that has since been replaced is left out.
    """
    own = authority.certificate.public_bytes(Encoding.DER) if authority else None
    seen: dict[bytes, bool] = {}
    for file, state in _files(sources):
        for number, der in enumerate(_certificates(file, state), 1):
            try:
                if isinstance(der, str):
                    raise ValueError(der)
                if der not in seen:
                    inherited = _bears_our_name(der) and file.resolve().parent == directory.resolve()
                    seen[der] = not inherited and der != own
            except (ValueError, ssl.SSLError) as error:
                logger.warning("certificate %d of %s is skipped: %s", number, file, _first_line(error))
    return [der for der, is_root in seen.items() if is_root]


def write_child_bundle(directory: Path, authority: CertificateAuthority, roots: Sequence[bytes]) -> Path:
    """Writes `ca-bundle.pem`: every root and our authority. Child programs are given this one file.

    Raises `FileRefused` when it cannot be written.
    """
    return _write(directory / CHILD_BUNDLE, [*roots, authority.certificate.public_bytes(Encoding.DER)])


def write_upstream_bundle(directory: Path, roots: Sequence[bytes]) -> Path:
    """Writes what servers are verified against, for the engine's option `ssl_verify_upstream_trusted_ca`.

    Raises `FileRefused` when it cannot be written, or when there is no root at all.
    """
    if not roots:
        raise FileRefused("no trusted root certificates were found: install ca-certificates or set SSL_CERT_FILE")
    return _write(directory / UPSTREAM_BUNDLE, roots)


def _write(path: Path, certificates: Iterable[bytes]) -> Path:
    content = _HEADER + b"".join(map(_pem, certificates))
    try:
        if path.is_symlink() or not path.is_file() or path.read_bytes() != content:
            replace_whole(path, content, 0o644)
    except OSError as error:
        raise FileRefused(f"cannot write {path}: {error.strerror}") from None
    return path


@lru_cache(maxsize=REMEMBERED)
def _pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


def _files(sources: TrustSources) -> list[tuple[Path, _State]]:
    """Each file once, with the state it is in: a directory of roots is mostly links to the same few files."""
    files = [*sources.files]
    for directory in sources.directories:
        try:
            files += sorted(entry for entry in directory.iterdir() if entry.is_file())
        except OSError as error:
            logger.warning("trusted certificates in %s cannot be read: %s", directory, error.strerror)
    found: dict[_State, Path] = {}
    for file in files:
        try:
            found.setdefault(_State.of(file), file)
        except OSError as error:
            logger.warning("trusted certificates %s cannot be read: %s", file, error.strerror)
    return [(file, state) for state, file in found.items()]


def _certificates(file: Path, state: _State) -> tuple[bytes | str, ...]:
    try:
        return _decoded(file, state)
    except OSError as error:
        logger.warning("trusted certificates %s cannot be read: %s", file, error.strerror)
    except FileRefused as error:
        logger.warning("trusted certificates %s are ignored: %s", file, error)
    return ()


@lru_cache(maxsize=REMEMBERED)
def _decoded(file: Path, state: _State) -> tuple[bytes | str, ...]:
    """Every block of a file in this state, DER, or what is wrong with it. Raises `OSError` and `FileRefused`."""
    with file.open("rb") as stream:
        content = stream.read(FILE_LIMIT + 1)
    if len(content) > FILE_LIMIT:
        raise FileRefused(f"the file is larger than {FILE_LIMIT} bytes")
    return tuple(_decode(label, body) for label, body in _BLOCK.findall(content))


def _decode(label: bytes, body: bytes) -> bytes | str:
    """The certificate, or what is wrong with the block."""
    if label not in (b"CERTIFICATE", b"X509 CERTIFICATE"):
        return f"{label.decode().lower()} blocks are not supported"
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        return "not base64"


@lru_cache(maxsize=REMEMBERED)
def _bears_our_name(der: bytes) -> bool:
    """Whether it may be an authority of ours. Raises `ValueError` and `ssl.SSLError` for what is no certificate.

    Both libraries must take it: OpenSSL stops reading a bundle at the first block that it does not understand.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old roots have oddities that cryptography announces to take offence at
        subject = x509.load_der_x509_certificate(der).subject
    _openssl().load_verify_locations(cadata=der)
    return subject == NAME


@cache
def _openssl() -> ssl.SSLContext:
    """Where roots are tried out."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
