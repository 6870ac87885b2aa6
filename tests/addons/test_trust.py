from __future__ import annotations

import errno
import logging
import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from codex_network_proxy.addons import trust
from codex_network_proxy.addons.ca_files import CertificateAuthority, load_or_create
from codex_network_proxy.addons.private_files import FileRefused
from codex_network_proxy.addons.trust import TrustSources, trusted_roots, write_child_bundle, write_upstream_bundle


def root(name: str) -> x509.Certificate:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=9))
    return builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def names(certificates: list[bytes]) -> list[str]:
    return [x509.load_der_x509_certificate(der).subject.rfc4514_string() for der in certificates]


def names_in(file: Path) -> list[str]:
    """As OpenSSL reads the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(file)
    return sorted(names(context.get_ca_certs(binary_form=True)))


A, B, C = root("A"), root("B"), root("C")
OURS = "CN=network_proxy MITM CA"


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return load_or_create(tmp_path)


@pytest.fixture
def directory(tmp_path: Path, authority: CertificateAuthority) -> Path:
    return authority.path.parent


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    return write


Put = Callable[[str, bytes], Path]


def test_the_sources_are_the_platform_certifi_and_the_users_own(
    put: Put, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    platform = put("platform.pem", pem(A))
    monkeypatch.setattr(trust, "PLATFORM_FILES", (tmp_path / "absent.pem", platform, put("later.pem", pem(B))))
    sources = TrustSources.of({"SSL_CERT_FILE": "/own.pem", "SSL_CERT_DIR": "/one:/two:"})
    assert sources.files == (platform, Path(certifi.where()), Path("/own.pem"))
    assert sources.directories == (Path("/one"), Path("/two"))


@pytest.mark.parametrize("environ", [{}, {"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}])
def test_without_the_users_own_and_without_a_platform_there_is_certifi(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "PLATFORM_FILES", (Path("/nonexistent"),))
    assert TrustSources.of(environ) == TrustSources((Path(certifi.where()),))


def test_this_machines_roots_are_read_without_a_complaint(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    roots = trusted_roots(directory, None, TrustSources.of({}))
    assert len(roots) > 50
    assert caplog.messages == []


def test_every_root_is_there_once(directory: Path, authority: CertificateAuthority, put: Put) -> None:
    sources = TrustSources((put("one.pem", pem(A, B)), put("two.pem", pem(B, C, A))), (put("d/x.0", pem(C)).parent,))
    assert names(trusted_roots(directory, authority, sources)) == ["CN=A", "CN=B", "CN=C"]


def test_directories_are_read_whole_and_links_followed(
    directory: Path, authority: CertificateAuthority, put: Put
) -> None:
    folder = put("d/a.pem", pem(A)).parent
    put("d/README", b"not a certificate")
    (folder / "sub").mkdir()
    (folder / "12345678.0").symlink_to(put("elsewhere.pem", pem(B)))
    (folder / "dangling.0").symlink_to("nowhere")
    assert names(trusted_roots(directory, authority, TrustSources((), (folder,)))) == ["CN=B", "CN=A"]


def test_what_has_not_changed_is_not_read_again(
    directory: Path, put: Put, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, changed = put("kept.pem", pem(A) + HEAD + b"!" + TAIL), put("d/changed.pem", pem(B))
    put("d/README", b"not a certificate")
    opened: list[str] = []
    usual = Path.open

    def opening(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self.name)
        return usual(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", opening)
    sources = TrustSources((kept,), (changed.parent,))
    assert names(trusted_roots(directory, None, sources)) == ["CN=A", "CN=B"]
    assert sorted(opened) == ["README", "changed.pem", "kept.pem"]
    opened.clear()
    assert names(trusted_roots(directory, None, sources)) == ["CN=A", "CN=B"]
    assert opened == []
    assert caplog.messages == [f"certificate 2 of {kept} is skipped: not base64"] * 2, "a complaint stays one"
    put("d/new.pem", pem(C)).replace(changed)
    assert names(trusted_roots(directory, None, sources)) == ["CN=A", "CN=C"]
    assert opened == ["new.pem", "changed.pem"], "the test's own, and what it replaced"


def test_what_could_not_be_read_is_tried_again(
    directory: Path, put: Put, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = TrustSources((put("a.pem", pem(A)),))

    def refusing(self: Path, *arguments: Any, **options: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refusing)
        assert trusted_roots(directory, None, sources) == []
    assert caplog.messages == [f"trusted certificates {sources.files[0]} cannot be read: Permission denied"]
    assert names(trusted_roots(directory, None, sources)) == ["CN=A"]


HEAD, TAIL = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        pytest.param(HEAD + b"!!!!\n" + TAIL, "certificate 2 of FILE is skipped: not base64", id="not base64"),
        pytest.param(HEAD + b"AAAA\n" + TAIL, "certificate 2 of FILE is skipped: ", id="not a certificate"),
        pytest.param(HEAD + TAIL, "certificate 2 of FILE is skipped: ", id="empty"),
        pytest.param(
            pem(C).replace(b"BEGIN ", b"BEGIN TRUSTED ").replace(b"END ", b"END TRUSTED "),
            "certificate 2 of FILE is skipped: trusted certificate blocks are not supported",
            id="OpenSSL's own format",
        ),
        pytest.param(pem(C)[:200] + b"\n" + TAIL, "certificate 2 of FILE is skipped: ", id="cut short"),
    ],
)
def test_a_block_that_cannot_be_read_is_skipped_with_a_warning(
    directory: Path, put: Put, caplog: pytest.LogCaptureFixture, block: bytes, message: str
) -> None:
    file = put("roots.pem", pem(A) + block + pem(B))
    roots = trusted_roots(directory, None, TrustSources((file,)))
    assert names(roots) == ["CN=A", "CN=B"]
    assert caplog.messages[0].startswith(message.replace("FILE", str(file)))
    assert names_in(write_upstream_bundle(directory, roots)) == ["CN=A", "CN=B"]


def test_comments_crlf_and_old_labels_are_understood(directory: Path, put: Put) -> None:
    old = pem(B).replace(b"BEGIN ", b"BEGIN X509 ").replace(b"END ", b"END X509 ")
    file = put("roots.pem", b"# A\r\n" + pem(A).replace(b"\n", b"\r\n") + b"\xff\xfe text\n" + old)
    assert names(trusted_roots(directory, None, TrustSources((file,)))) == ["CN=A", "CN=B"]


def test_what_cannot_be_read_is_a_warning(
    directory: Path, tmp_path: Path, put: Put, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "FILE_LIMIT", 4000)
    absent, large = tmp_path / "absent.pem", put("large.pem", b"#" * 5000 + pem(B))
    sources = TrustSources((absent, large, put("a.pem", pem(A))), (tmp_path / "absent",))
    assert names(trusted_roots(directory, None, sources)) == ["CN=A"]
    assert caplog.messages == [
        f"trusted certificates in {tmp_path / 'absent'} cannot be read: No such file or directory",
        f"trusted certificates {absent} cannot be read: No such file or directory",
        f"trusted certificates {large} are ignored: the file is larger than 4000 bytes",
    ]


def test_children_trust_our_authority_and_servers_are_never_verified_against_it(
    directory: Path, authority: CertificateAuthority, put: Put
) -> None:
    sources = TrustSources((put("a.pem", pem(A, authority.certificate, B)),))
    roots = trusted_roots(directory, authority, sources)
    assert names_in(write_child_bundle(directory, authority, roots)) == ["CN=A", "CN=B", OURS]
    assert names_in(write_upstream_bundle(directory, roots)) == ["CN=A", "CN=B"]


def test_a_proxy_inside_a_proxy_keeps_the_users_roots_and_drops_our_old_authority(
    tmp_path: Path, directory: Path, authority: CertificateAuthority, put: Put
) -> None:
    outer = trusted_roots(directory, authority, TrustSources((put("own.pem", pem(A)),)))
    inherited = write_child_bundle(directory, authority, outer)
    for name in ("ca.pem", "ca.key"):
        (directory / name).unlink()
    for now in (load_or_create(tmp_path), None):
        assert names(trusted_roots(directory, now, TrustSources((inherited,)))) == ["CN=A"]


def test_the_authority_of_another_proxy_is_a_root_like_any_other(
    tmp_path: Path, directory: Path, authority: CertificateAuthority, put: Put
) -> None:
    other = load_or_create(tmp_path / "other")
    file = put("outer/ca-bundle.pem", pem(other.certificate))
    assert names(trusted_roots(directory, authority, TrustSources((file,)))) == [OURS]


def test_no_root_at_all_is_refused(directory: Path) -> None:
    with pytest.raises(FileRefused, match="no trusted root certificates were found"):
        write_upstream_bundle(directory, [])


def test_bundles_are_readable_by_all_and_written_only_when_they_change(
    directory: Path, authority: CertificateAuthority
) -> None:
    roots = [A.public_bytes(Encoding.DER)]
    path = write_child_bundle(directory, authority, roots)
    before = path.stat()
    assert (path.name, stat.S_IMODE(before.st_mode)) == ("ca-bundle.pem", 0o644)
    assert write_child_bundle(directory, authority, roots).stat().st_ino == before.st_ino
    assert names_in(write_child_bundle(directory, authority, [])) == [OURS]
    assert path.stat().st_ino != before.st_ino, "readers of the old file still have the old file"


def test_a_symlink_in_the_bundles_place_is_replaced_and_not_followed(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (directory / "upstream-roots.pem").symlink_to(tmp_path / "precious")
    path = write_upstream_bundle(directory, [A.public_bytes(Encoding.DER)])
    assert not path.is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_bundle_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"cannot write .*upstream-roots\.pem: No such file or directory"):
        write_upstream_bundle(tmp_path / "absent", [A.public_bytes(Encoding.DER)])


def test_a_complaint_goes_to_the_log(directory: Path, put: Put, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "codex_network_proxy"):
        trusted_roots(directory, None, TrustSources((put("x.pem", HEAD + TAIL),)))
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
