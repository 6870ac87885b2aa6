from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from codex_network_proxy.addons import private_files
from codex_network_proxy.addons.ca_files import CertificateAuthority, load_or_create
from codex_network_proxy.addons.private_files import FileRefused, ensure_private_directory

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def at(moment: datetime) -> Callable[[], datetime]:
    return lambda: moment


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A CODEX_HOME with a good pair in it."""
    load_or_create(tmp_path, now=at(NOW))
    return tmp_path


# --- what is made -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_the_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        load_or_create(tmp_path / "home", now=at(NOW))
    finally:
        os.umask(before)
    directory = tmp_path / "home" / "proxy"
    assert [mode_of(directory / name) for name in (".", "ca.pem", "ca.key")] == [0o700, 0o644, 0o600]


def test_nothing_else_is_left_but_the_lock(home: Path) -> None:
    assert sorted(entry.name for entry in (home / "proxy").iterdir()) == [".ca.lock", "ca.key", "ca.pem"]


def test_the_certificate_is_what_strict_verifiers_want(home: Path) -> None:
    certificate = load_or_create(home, now=at(NOW)).certificate
    extensions = {type(extension.value): extension for extension in certificate.extensions}
    constraints, usage = extensions[x509.BasicConstraints], extensions[x509.KeyUsage]
    key_identifier = extensions[x509.SubjectKeyIdentifier].value.digest
    assert certificate.subject.rfc4514_string() == certificate.issuer.rfc4514_string() == "CN=network_proxy MITM CA"
    assert (constraints.value, constraints.critical) == (x509.BasicConstraints(True, 0), True)
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.critical) == (True, True, True)
    assert extensions[x509.AuthorityKeyIdentifier].value.key_identifier == key_identifier
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert timedelta(days=3650) < certificate.not_valid_after_utc - NOW < timedelta(days=3653)
    certificate.verify_directly_issued_by(certificate)


def test_serial_numbers_are_random_and_fit_in_twenty_bytes(tmp_path: Path) -> None:
    serials = {load_or_create(tmp_path / str(n)).certificate.serial_number for n in range(8)}
    assert len(serials) == 8
    assert all(64 < serial.bit_length() < 160 for serial in serials)


def test_the_second_start_loads_what_the_first_made(home: Path) -> None:
    before = (home / "proxy/ca.pem").read_bytes(), (home / "proxy/ca.key").read_bytes()
    first, second = load_or_create(home, now=at(NOW)), load_or_create(home, now=at(NOW))
    assert first.certificate == second.certificate
    assert first.key.public_key() == second.key.public_key()
    assert second.path == home / "proxy/ca.pem"
    assert before == ((home / "proxy/ca.pem").read_bytes(), (home / "proxy/ca.key").read_bytes())


def test_the_key_does_not_show_in_repr(home: Path) -> None:
    authority = load_or_create(home, now=at(NOW))
    assert "PrivateKey" not in repr(authority)


def test_a_pair_in_a_directory_that_cannot_be_written_is_loaded(home: Path) -> None:
    (home / "proxy/.ca.lock").unlink()
    load_or_create(home, now=at(NOW))
    assert not (home / "proxy/.ca.lock").exists()


# --- making it fails ----------------------------------------------------------------------------------------------


def failing_link(name: str, error: OSError) -> Callable[..., None]:
    real = os.link

    def link(source: Path, target: Path, **options: bool) -> None:
        if Path(target).name == name:
            raise error
        real(source, target, **options)

    return link


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        pytest.param(
            "ca.pem", OSError(errno.ENOSPC, "No space left"), "No space left", id="certificate finds no space"
        ),
        pytest.param(
            "ca.pem", FileExistsError(), "refusing to overwrite existing file .*ca.pem", id="certificate appears"
        ),
        pytest.param("ca.key", FileExistsError(), "refusing to overwrite existing file .*ca.key", id="key appears"),
        pytest.param("ca.key", OSError(errno.EPERM, "Not permitted"), "Not permitted", id="no hard links here"),
    ],
)
def test_a_failure_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: OSError, message: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", failing_link(name, error))
        with pytest.raises(FileRefused, match=message):
            load_or_create(tmp_path, now=at(NOW))
    assert snapshot(tmp_path / "proxy") == {}
    assert isinstance(load_or_create(tmp_path, now=at(NOW)), CertificateAuthority)


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        private_files.replace_whole(tmp_path / "file", b"content", 0o644)
    assert list(tmp_path.iterdir()) == []


def test_a_pair_that_another_program_makes_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def and_then_another_program(path: Path, what: str) -> None:
        ensure_private_directory(path, what)
        (path / "ca.key").touch(0o600)

    monkeypatch.setattr("codex_network_proxy.addons.ca_files.ensure_private_directory", and_then_another_program)
    with pytest.raises(FileRefused, match="both managed MITM CA files must exist"):
        load_or_create(tmp_path)
    assert snapshot(tmp_path / "proxy") == {"ca.key": b""}


def snapshot(directory: Path) -> dict[str, bytes | None]:
    """All there is, apart from the lock."""
    return {
        entry.name: entry.read_bytes() if entry.is_file() else None
        for entry in directory.iterdir()
        if entry.name != ".ca.lock"
    }


# --- many at once ---------------------------------------------------------------------------------------------------

STARTER = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from codex_network_proxy.addons.ca_files import load_or_create
print("ready", flush=True)
sys.stdin.readline()
authority = load_or_create(Path(sys.argv[1]))
der = authority.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
print(authority.certificate.serial_number, der.hex(), flush=True)
"""


def test_processes_that_start_at_once_end_with_one_pair(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    starters = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", STARTER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        for _ in range(6)
    ]
    for starter in starters:
        assert starter.stdout
        assert starter.stdout.readline() == "ready\n"
    for starter in starters:
        assert starter.stdin
        starter.stdin.write("go\n")
        starter.stdin.flush()
    answers = [starter.communicate(timeout=60)[0] for starter in starters]
    assert all(starter.returncode == 0 for starter in starters)
    assert len(set(answers)) == 1, answers
    assert str(load_or_create(tmp_path).certificate.serial_number) in answers[0]
