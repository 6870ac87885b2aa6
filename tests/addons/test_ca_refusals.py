from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from codex_network_proxy.addons.ca_files import load_or_create
from codex_network_proxy.addons.private_files import FileRefused

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def at(moment: datetime) -> Callable[[], datetime]:
    return lambda: moment


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A CODEX_HOME with a good pair in it."""
    load_or_create(tmp_path, now=at(NOW))
    return tmp_path


def symlink(name: str) -> Callable[[Path], None]:
    def sabotage(directory: Path) -> None:
        (directory / name).rename(directory / "elsewhere")
        (directory / name).symlink_to(directory / "elsewhere")

    return sabotage


def dangling(name: str) -> Callable[[Path], None]:
    def sabotage(directory: Path) -> None:
        (directory / name).unlink()
        (directory / name).symlink_to(directory / "nowhere")

    return sabotage


def chmod(name: str, mode: int) -> Callable[[Path], None]:
    return lambda directory: (directory / name).chmod(mode)


def remove(*names: str) -> Callable[[Path], None]:
    def sabotage(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return sabotage


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def sabotage(directory: Path) -> None:
        (directory / name).unlink()
        make(directory / name)

    return sabotage


def content(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def sabotage(directory: Path) -> None:
        path = directory / name
        path.write_bytes(change(path.read_bytes()))

    return sabotage


def key_pem(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey, phrase: bytes = b""
) -> bytes:
    protection = serialization.BestAvailableEncryption(phrase) if phrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def other_key(_: bytes) -> bytes:
    return key_pem(ec.generate_private_key(ec.SECP256R1()))


def encrypted_key(_: bytes) -> bytes:
    return key_pem(ec.generate_private_key(ec.SECP256R1()), b"phrase")


def unusual_key(_: bytes) -> bytes:
    return key_pem(ed25519.Ed25519PrivateKey.generate())


def self_made(*extensions: tuple[x509.ExtensionType, bool], start: datetime = NOW) -> Callable[[Path], None]:
    """A pair that belongs together, made by somebody else."""

    def sabotage(directory: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=20))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(key, hashes.SHA256())
        (directory / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (directory / "ca.key").write_bytes(key_pem(key))

    return sabotage


def usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(True, False, False, False, False, signs, False, False, False)


CA = x509.BasicConstraints(True, None)
NOT_CA = x509.BasicConstraints(False, None)
REFUSALS = [
    pytest.param(
        symlink("ca.key"), r"refusing to use symlink for managed MITM CA key .*ca\.key", id="key is a symlink"
    ),
    pytest.param(
        dangling("ca.key"), r"refusing to use symlink for managed MITM CA key", id="key is a dangling symlink"
    ),
    pytest.param(
        symlink("ca.pem"), r"refusing to use symlink for managed MITM CA certificate", id="certificate symlink"
    ),
    pytest.param(
        instead("ca.key", os.mkfifo), r"managed MITM CA key is not a regular file: .*ca\.key", id="key is a pipe"
    ),
    pytest.param(instead("ca.key", os.mkdir), r"managed MITM CA key is not a regular file", id="key is a directory"),
    pytest.param(instead("ca.pem", os.mkdir), r"certificate is not a regular file", id="certificate is a directory"),
    pytest.param(
        chmod("ca.key", 0o644),
        r"CA key .*ca\.key must not be group/world accessible \(mode=644; expected <= 600\); run: chmod 600 ",
        id="key can be read by all",
    ),
    pytest.param(chmod("ca.key", 0o640), r"\(mode=640; expected <= 600\)", id="key can be read by the group"),
    pytest.param(chmod("ca.key", 0o602), r"\(mode=602; expected <= 600\)", id="key can be written by the world"),
    pytest.param(chmod("ca.key", 0o601), r"\(mode=601; expected <= 600\)", id="key can be run by the world"),
    pytest.param(
        chmod("ca.pem", 0o664), r"writable by others \(mode=664; expected <= 644\)", id="group writes certificate"
    ),
    pytest.param(
        chmod("ca.pem", 0o646), r"writable by others \(mode=646; expected <= 644\)", id="world writes certificate"
    ),
    pytest.param(
        remove("ca.pem"),
        r"both managed MITM CA files must exist \(cert=.*ca\.pem, key=.*ca\.key\).*remove .*ca\.key",
        id="only the key is there",
    ),
    pytest.param(
        remove("ca.key"), r"both managed MITM CA files must exist .*remove .*ca\.pem", id="only the certificate"
    ),
    pytest.param(content("ca.key", other_key), r"ca\.pem does not belong to .*ca\.key", id="key of another pair"),
    pytest.param(content("ca.key", lambda _: b""), r"failed to parse CA key", id="key is empty"),
    pytest.param(content("ca.key", lambda pem: pem[:99]), r"failed to parse CA key", id="key is half written"),
    pytest.param(content("ca.key", encrypted_key), r"failed to parse CA key", id="key is encrypted"),
    pytest.param(
        content("ca.key", unusual_key), r"failed to parse CA key .*neither ECDSA nor RSA", id="key of other kind"
    ),
    pytest.param(content("ca.pem", lambda _: b""), r"failed to parse CA cert", id="certificate is empty"),
    pytest.param(
        content("ca.pem", lambda pem: pem[:300]), r"failed to parse CA cert", id="certificate is half written"
    ),
    pytest.param(
        content("ca.pem", lambda _: b"\0" * (1 << 21)), r"larger than 1048576 bytes", id="certificate is huge"
    ),
    pytest.param(self_made(), r"has no basicConstraints", id="certificate without constraints"),
    pytest.param(self_made((CA, True)), r"has no keyUsage", id="certificate without key usage"),
    pytest.param(self_made((NOT_CA, True), (usage(signs=True), True)), r"may not sign", id="certificate of a server"),
    pytest.param(
        self_made((CA, True), (usage(signs=False), True)), r"may not sign", id="certificate that may not sign"
    ),
    pytest.param(
        self_made((CA, True), (usage(signs=True), True), start=NOW - timedelta(days=21)),
        r"expired on 2026-05-31; remove both",
        id="certificate has expired",
    ),
    pytest.param(
        self_made((CA, True), (usage(signs=True), True), start=NOW + timedelta(days=1)),
        r"not valid before 2026-06-02; set the clock",
        id="certificate of the future",
    ),
    pytest.param(
        chmod(".", 0o770), r"directory .*proxy must not be writable by others \(mode=770", id="group directory"
    ),
    pytest.param(chmod(".", 0o1777), r"directory .*proxy must not be writable by others", id="directory like /tmp"),
]


@pytest.mark.parametrize(("sabotage", "message"), REFUSALS)
def test_refuses(home: Path, sabotage: Callable[[Path], None], message: str) -> None:
    directory = home / "proxy"
    sabotage(directory)
    before = snapshot(directory)
    with pytest.raises(FileRefused, match=message) as refusal:
        load_or_create(home, now=at(NOW))
    assert snapshot(directory) == before, "nothing is repaired by deleting it"
    assert "PRIVATE" not in str(refusal.value)


def snapshot(directory: Path) -> dict[str, bytes | None]:
    """All there is, apart from the lock."""
    return {
        entry.name: entry.read_bytes() if entry.is_file() else None
        for entry in directory.iterdir()
        if entry.name != ".ca.lock"
    }


def test_a_directory_that_others_may_only_read_is_closed(home: Path) -> None:
    (home / "proxy").chmod(0o755)
    load_or_create(home, now=at(NOW))
    assert stat.S_IMODE((home / "proxy").stat().st_mode) == 0o700


def test_a_directory_that_is_a_symlink_is_refused(home: Path) -> None:
    (home / "proxy").rename(home / "elsewhere")
    (home / "proxy").symlink_to(home / "elsewhere")
    with pytest.raises(FileRefused, match="refusing to use symlink for managed MITM CA directory"):
        load_or_create(home, now=at(NOW))


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "proxy").write_text("")
    with pytest.raises(FileRefused, match="managed MITM CA directory is not a directory"):
        load_or_create(tmp_path)


def test_a_home_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileRefused, match=r"cannot use managed MITM CA directory .*: Not a directory"):
        load_or_create(tmp_path / "file" / "home")


def test_a_directory_of_another_user_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = (home / "proxy").stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    load_or_create(home, now=at(NOW))  # same owner as CODEX_HOME: a container that sees its user's home
    real = Path.stat

    def other_parent(path: Path, **options: bool) -> os.stat_result:
        status = real(path, **options)
        return os.stat_result((*status[:4], owner + 2, *status[5:])) if path == home else status

    monkeypatch.setattr(Path, "stat", other_parent)
    with pytest.raises(FileRefused, match=f"belongs to another user \\(uid {owner}\\)"):
        load_or_create(home, now=at(NOW))


def test_an_rsa_authority_of_the_users_own_is_taken(home: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "corporate")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=90))
    builder = builder.add_extension(CA, True).add_extension(usage(signs=True), True)
    (home / "proxy/ca.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (home / "proxy/ca.key").write_bytes(key_pem(key))
    assert isinstance(load_or_create(home, now=at(NOW)).key, rsa.RSAPrivateKey)


def test_an_authority_that_ends_soon_is_announced(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        authority = load_or_create(home, now=at(NOW))
        assert caplog.messages == []
        load_or_create(home, now=at(authority.certificate.not_valid_after_utc - timedelta(days=29)))
    assert "expires on 2036-" in caplog.text
