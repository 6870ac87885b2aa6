"""What interception needs at start: the CA, leaves under it, and bundles of trusted roots (spec A6, A7)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import ConfigError, ConfigProblem
from codex_network_proxy.policy.interfaces import SecretSource

from .ca_files import CertificateAuthority, load_or_create, proxy_directory
from .leaf_certificates import LeafCertificates
from .private_files import FileRefused
from .secret_sources import verify_all
from .trust import TrustSources, trusted_roots, write_child_bundle, write_upstream_bundle

logger = logging.getLogger("codex_network_proxy")


@dataclass(frozen=True, slots=True)
class Interception:
    """`ca` is the certificate that clients must trust; `child_bundle` holds it and every other root."""

    leaves: LeafCertificates
    ca: Path
    child_bundle: Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Roots for the engine's own connections, and interception when the configuration asks for it."""

    upstream_bundle: Path | None
    interception: Interception | None


def prepare(home: Path, policy: NetworkPolicy, secrets: SecretSource, environ: Mapping[str, str]) -> TlsFiles:
    """Makes or checks every file that TLS needs. Raises `ConfigError` when interception is on and cannot work."""
    if policy.mitm:
        problems = tuple(verify_all(policy.hooks, secrets))
        if problems:
            raise ConfigError(problems)
    try:
        return _files(home, environ, mitm=policy.mitm)
    except FileRefused as error:
        if policy.mitm:
            raise ConfigError((ConfigProblem("managed MITM CA", str(error)),)) from None
        # Tunnels need no roots of ours; the engine falls back to the bundle it brings.
        logger.warning("%s", error)
        return TlsFiles(None, None)


def _files(home: Path, environ: Mapping[str, str], *, mitm: bool) -> TlsFiles:
    directory = proxy_directory(home)
    authority = load_or_create(home) if mitm else None
    roots = trusted_roots(directory, authority, TrustSources.of(environ))
    upstream = write_upstream_bundle(directory, roots)
    if authority is None:
        return TlsFiles(upstream, None)
    return TlsFiles(upstream, _interception(directory, authority, roots))


def _interception(directory: Path, authority: CertificateAuthority, roots: list[bytes]) -> Interception:
    bundle = write_child_bundle(directory, authority, roots)
    return Interception(LeafCertificates(authority), directory / "ca.pem", bundle)
