"""The certificate authority at start: made once, private, never overwritten, and refused when not safe (spec A7).

More refusals, without a process for each, are in `tests/addons/test_ca_refusals`.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.kit.hooks import API, CANARY, SECRET_VARIABLE, Hook, Inject, inspecting
from tests.kit.inner import HTTP1, INNER, Inner, enter
from tests.kit.origins import HttpOrigin
from tests.kit.process import Process
from tests.kit.proxy import ProxyProcess
from tests.kit.tls import TestAuthority

POLICY = inspecting(Hook(API, inject=(Inject(),)))
SECRETS = {SECRET_VARIABLE: CANARY}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def prepared(home: Path, environment: dict[str, str] | None = None) -> ProxyProcess:
    return ProxyProcess(home, POLICY, environment=SECRETS | (environment or {}))


def refusal(home: Path) -> str:
    """What a start that must fail says: one line, and no listener."""
    made = prepared(home)
    with Process(made.command, made.environment, home) as process:
        assert process.ended() == 1, process.output
    assert not made.ready_file.exists()
    (line,) = process.output.splitlines()
    return line


@pytest.mark.parametrize("umask", ["000", "077"])
def test_made_on_first_use_with_modes_of_its_own(umask: str, tmp_path: Path) -> None:
    made = prepared(tmp_path)
    made.command = ["sh", "-c", f'umask {umask}; exec "$@"', "sh", *made.command]
    with made as proxy:
        folder = proxy.ca.parent
        assert folder == tmp_path / "proxy"
        assert (mode_of(folder), mode_of(folder / "ca.key"), mode_of(proxy.ca)) == (0o700, 0o600, 0o644)
        assert mode_of(proxy.ca_bundle) == 0o644
        assert not [path.name for path in folder.iterdir() if ".tmp" in path.name]
        engine = folder / "engine"
        assert not engine.exists() or mode_of(engine) == 0o700
    assert not (tmp_path / ".mitmproxy").exists()


def body(pem: bytes) -> bytes:
    """The lines of the one certificate in it."""
    return pem.partition(b"BEGIN CERTIFICATE-----\n")[2].partition(b"-----END")[0]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, authority: TestAuthority) -> Iterator[ProxyProcess]:
    with prepared(tmp_path_factory.mktemp("started"), {"SSL_CERT_FILE": str(authority.bundle)}) as proxy:
        yield proxy


def test_the_bundle_holds_the_platforms_roots_the_users_and_ours(
    started: ProxyProcess, authority: TestAuthority
) -> None:
    bundle, ours, users = (path.read_bytes() for path in (started.ca_bundle, started.ca, authority.bundle))
    assert bundle.count(body(ours)) == 1
    assert bundle.count(body(users)) == 1
    assert bundle.count(b"BEGIN CERTIFICATE") > 100
    assert b"PRIVATE KEY" not in bundle + ours


def test_the_authority_and_its_leaves_are_as_described(started: ProxyProcess, tls_origin: HttpOrigin) -> None:
    ca = x509.load_pem_x509_certificate(started.ca.read_bytes())
    with enter(started, f"{API}:{tls_origin.port}", HTTP1) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        leaf = x509.load_der_x509_certificate(client.sock.getpeercert(binary_form=True) or b"")
    for certificate in (ca, leaf):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        assert certificate.serial_number.bit_length() > 100
    assert days(ca) == pytest.approx(3650, abs=5)
    assert days(leaf) <= 398
    assert point(leaf) != point(ca), "the leaf has a key of its own"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [API]
    assert ExtendedKeyUsageOID.SERVER_AUTH in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert issuer == ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    leaf.verify_directly_issued_by(ca)


def days(certificate: x509.Certificate) -> float:
    return (certificate.not_valid_after_utc - certificate.not_valid_before_utc) / timedelta(days=1)


def point(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_second_start_uses_the_same_files(started: ProxyProcess, tmp_path: Path) -> None:
    names = [started.ca, started.ca.with_name("ca.key")]
    before = [(name.read_bytes(), name.stat().st_ino, name.stat().st_mtime_ns) for name in names]
    with prepared(tmp_path, {"CODEX_HOME": str(started.home)}) as second:
        assert second.ca == started.ca
        assert [(name.read_bytes(), name.stat().st_ino, name.stat().st_mtime_ns) for name in names] == before


def test_two_that_start_at_once_share_one_authority(
    tmp_path: Path, tls_origin: HttpOrigin, authority: TestAuthority
) -> None:
    homes = [tmp_path / name for name in ("one", "two", "three")]
    shared = tmp_path / "shared"
    shared.mkdir()
    environment = SECRETS | {"CODEX_HOME": str(shared), "SSL_CERT_FILE": str(authority.bundle)}
    processes = [ProxyProcess(home, POLICY, environment=environment) for home in homes]
    with ExitStack() as stack:
        for proxy in processes:
            Process.__enter__(proxy)
            stack.push(proxy)
        for proxy in processes:
            proxy.wait_ready()
        assert {proxy.ca for proxy in processes} == {shared / "proxy" / "ca.pem"}
        for proxy in processes:
            # The client trusts the one authority in the file, so this also compares certificates.
            assert INNER.send(proxy, f"{API}:{tls_origin.port}".encode(), Inner(path=b"/t")).word == "passed"


def test_settings_and_keys_of_the_engines_own_are_ignored(tmp_path: Path, tls_origin: HttpOrigin) -> None:
    """`~/.mitmproxy` belongs to other programs: its options and its authority play no part."""
    folder = tmp_path / ".mitmproxy"
    folder.mkdir()
    (folder / "config.yaml").write_text("ssl_insecure: true\nproxy_debug: true\nmode: [socks5]\n")
    (folder / "mitmproxy-ca.pem").write_text("not a certificate\n")
    with prepared(tmp_path) as proxy:
        outcome = INNER.send(proxy, f"{API}:{tls_origin.port}".encode(), Inner(path=b"/t"))
        assert outcome.word == "failed", "the origin's issuer is not known here"
        assert not tls_origin.recorder.connections[-1].heads
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "mitmproxy-ca.pem"]


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(started: ProxyProcess) -> tuple[bytes, bytes]:
    """A certificate and key as the proxy itself makes them."""
    return started.ca.read_bytes(), started.ca.with_name("ca.key").read_bytes()


@pytest.fixture
def home(tmp_path: Path, pair: tuple[bytes, bytes]) -> Path:
    folder = tmp_path / "proxy"
    folder.mkdir(0o700)
    (folder / "ca.pem").write_bytes(pair[0])
    (folder / "ca.key").write_bytes(pair[1])
    (folder / "ca.key").chmod(0o600)
    return tmp_path


Sabotage = Callable[[Path], object]


def link(name: str) -> Sabotage:
    def sabotage(folder: Path) -> None:
        (folder / name).rename(folder / "elsewhere")
        (folder / name).symlink_to("elsewhere")

    return sabotage


def instead(name: str, make: Callable[[Path], object]) -> Sabotage:
    def sabotage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return sabotage


def key_of_another(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def swap_directory(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


def expire(folder: Path) -> None:
    """The same certificate, for the same key, as it would have been made eleven years ago."""
    old = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    key = _key(folder)
    ended = datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder(old.issuer, old.subject, key.public_key(), old.serial_number)
    builder = builder.not_valid_before(ended - timedelta(days=3652)).not_valid_after(ended)
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    (folder / "ca.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))


def _key(folder: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


KEY, CERTIFICATE, DIRECTORY = "managed MITM CA key", "managed MITM CA certificate", "managed MITM CA directory"
OPEN_KEY, OPEN_TO_OTHERS = "must not be group/world accessible (mode=644", "must not be writable by others"
NOT_BOTH = "both managed MITM CA files must exist"

REFUSALS = [
    pytest.param(lambda at: (at / "ca.key").chmod(0o644), OPEN_KEY, id="a key that others can read"),
    pytest.param(lambda at: (at / "ca.pem").chmod(0o666), OPEN_TO_OTHERS, id="a certificate that others can write"),
    pytest.param(lambda at: at.chmod(0o777), OPEN_TO_OTHERS, id="a directory that others can write"),
    pytest.param(link("ca.key"), f"refusing to use symlink for {KEY}", id="a link to the key"),
    pytest.param(swap_directory, f"refusing to use symlink for {DIRECTORY}", id="a link to the directory"),
    pytest.param(lambda at: (at / "ca.key").unlink(), NOT_BOTH, id="no key"),
    pytest.param(instead("ca.key", os.mkfifo), f"{KEY} is not a regular file", id="a pipe as key"),
    pytest.param(lambda at: (at / "ca.key").write_text("x"), "failed to parse CA key", id="a key that is none"),
    pytest.param(key_of_another, "does not belong to", id="the key of another certificate"),
    pytest.param(expire, f"{CERTIFICATE} ", id="a certificate that has expired"),
]


@pytest.mark.parametrize(("sabotage", "message"), REFUSALS)
def test_j11_refused(sabotage: Sabotage, message: str, home: Path) -> None:
    sabotage(home / "proxy")
    before = (home / "proxy" / "ca.pem").exists() and (home / "proxy" / "ca.pem").read_bytes()
    line = refusal(home)
    assert message in line
    assert str(home / "proxy") in line
    assert "BEGIN" not in line
    after = (home / "proxy" / "ca.pem").exists() and (home / "proxy" / "ca.pem").read_bytes()
    assert after == before, "nothing is overwritten"


def test_without_interception_neither_authority_nor_secrets_are_looked_at(home: Path) -> None:
    (home / "proxy" / "ca.key").chmod(0o644)
    with ProxyProcess(home, inspecting(Hook(API, inject=(Inject(),)), mitm=False)) as proxy:
        assert SECRET_VARIABLE not in proxy.environment
        assert proxy.ca == Path()
