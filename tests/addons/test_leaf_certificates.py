from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from codex_network_proxy.addons.ca_files import CertificateAuthority, load_or_create
from codex_network_proxy.addons.leaf_certificates import AuthorityExpired, Leaf, LeafCertificates
from codex_network_proxy.policy.hosts import Host, parse_host

LONG = ".".join(["a" * 50, "b" * 50, "example", "com"])
DAY = 86400.0


class FakeTime:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return load_or_create(tmp_path_factory.mktemp("home"))


def started(authority: CertificateAuthority) -> FakeTime:
    """The moment at which the authority was made."""
    return FakeTime((authority.certificate.not_valid_before_utc + timedelta(days=1)).timestamp())


def values(leaf: Leaf) -> dict[type[x509.ExtensionType], x509.Extension[x509.ExtensionType]]:
    return {type(extension.value): extension for extension in leaf.certificate.extensions}


def name_in(host: Host) -> x509.DNSName | x509.IPAddress:
    return x509.DNSName(host.text) if host.address is None else x509.IPAddress(host.address)


@pytest.mark.parametrize(
    ("host", "name", "subject"),
    [
        pytest.param("api.github.com", x509.DNSName("api.github.com"), "CN=api.github.com", id="a name"),
        pytest.param("API.GitHub.com.", x509.DNSName("api.github.com"), "CN=api.github.com", id="in any spelling"),
        pytest.param("bücher.example", x509.DNSName("xn--bcher-kva.example"), "CN=xn--bcher-kva.example", id="IDNA"),
        pytest.param("localhost", x509.DNSName("localhost"), "CN=localhost", id="one label"),
        pytest.param("192.0.2.7", x509.IPAddress(ip_address("192.0.2.7")), "CN=192.0.2.7", id="IPv4 as an address"),
        pytest.param("[2001:db8::1]", x509.IPAddress(ip_address("2001:db8::1")), "CN=2001:db8::1", id="IPv6 likewise"),
        pytest.param("fe80::1%lo0", x509.IPAddress(ip_address("fe80::1")), "CN=fe80::1", id="no zone in the name"),
        pytest.param("c" * 61 + ".de", x509.DNSName("c" * 61 + ".de"), "CN=" + "c" * 61 + ".de", id="64 characters"),
        pytest.param("c" * 62 + ".de", x509.DNSName("c" * 62 + ".de"), "", id="65 characters do not fit the subject"),
        pytest.param(LONG, x509.DNSName(LONG), "", id="a long name"),
    ],
)
def test_a_leaf_bears_one_name(
    authority: CertificateAuthority, host: str, name: x509.GeneralName, subject: str
) -> None:
    leaf = LeafCertificates(authority).for_host(parse_host(host))
    alternative = values(leaf)[x509.SubjectAlternativeName]
    assert list(alternative.value) == [name]  # type: ignore[call-overload]  # iterable, whatever its type says
    assert leaf.certificate.subject.rfc4514_string() == subject
    assert alternative.critical == (not subject), "RFC 5280 section 4.2.1.6"


@pytest.mark.parametrize("host", ["api.github.com", "192.0.2.7", "2001:db8::1", LONG])
def test_a_strict_verifier_accepts_it_for_this_host_only(authority: CertificateAuthority, host: str) -> None:
    leaf = LeafCertificates(authority).for_host(parse_host(host))
    policy = PolicyBuilder().store(Store([authority.certificate]))
    chain = policy.build_server_verifier(name_in(parse_host(host))).verify(leaf.certificate, [])
    assert chain == [leaf.certificate, authority.certificate]
    with pytest.raises(x509.verification.VerificationError):
        policy.build_server_verifier(x509.DNSName("other.example")).verify(leaf.certificate, [])


def test_what_a_leaf_says_of_itself(authority: CertificateAuthority) -> None:
    clock = started(authority)
    leaf = LeafCertificates(authority, now=clock).for_host(parse_host("api.github.com"))
    now = datetime.fromtimestamp(clock.now, UTC)
    extensions = values(leaf)
    usage = extensions[x509.KeyUsage]
    issuer_key = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extensions[x509.ExtendedKeyUsage].value == x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    assert extensions[x509.BasicConstraints].value == x509.BasicConstraints(False, None)
    assert isinstance(usage.value, x509.KeyUsage)
    assert (usage.value.digital_signature, usage.value.key_cert_sign, usage.critical) == (True, False, True)
    assert extensions[x509.AuthorityKeyIdentifier].value == x509.AuthorityKeyIdentifier(issuer_key, None, None)
    assert extensions[x509.SubjectKeyIdentifier].value != x509.SubjectKeyIdentifier(issuer_key)
    assert leaf.certificate.not_valid_before_utc <= now - timedelta(days=1), "clocks differ"
    assert leaf.certificate.not_valid_after_utc - leaf.certificate.not_valid_before_utc <= timedelta(days=398)
    assert leaf.certificate.version is x509.Version.v3


def test_the_key_is_not_the_authoritys_and_does_not_show(authority: CertificateAuthority) -> None:
    leaf = LeafCertificates(authority).for_host(parse_host("api.github.com"))
    assert isinstance(leaf.key.curve, ec.SECP256R1)
    assert leaf.certificate.public_key() == leaf.key.public_key() != authority.key.public_key()
    assert "PrivateKey" not in repr(leaf)


def test_every_process_has_a_leaf_key_of_its_own(authority: CertificateAuthority) -> None:
    host = parse_host("api.github.com")
    keys = [LeafCertificates(authority).for_host(host).key.public_key() for _ in range(2)]
    assert keys[0] != keys[1]


def test_serial_numbers_are_random(authority: CertificateAuthority) -> None:
    leaves = LeafCertificates(authority)
    serials = {leaves.for_host(parse_host(f"h{n}.example")).certificate.serial_number for n in range(50)}
    assert len(serials) == 50
    assert all(100 < serial.bit_length() < 160 for serial in serials)


def test_a_leaf_is_made_once(authority: CertificateAuthority) -> None:
    leaves = LeafCertificates(authority)
    assert leaves.for_host(parse_host("api.github.com")) is leaves.for_host(parse_host("API.github.com."))


def test_a_leaf_is_renewed_long_before_it_ends(authority: CertificateAuthority) -> None:
    clock = started(authority)
    leaves, host = LeafCertificates(authority, now=clock), parse_host("api.github.com")
    first = leaves.for_host(host)
    clock.now = first.renew_at - 1
    assert leaves.for_host(host) is first
    clock.now = first.renew_at
    second = leaves.for_host(host)
    assert second is not first
    assert clock.now + 30 * DAY < first.certificate.not_valid_after_utc.timestamp()
    assert second.certificate.not_valid_after_utc > first.certificate.not_valid_after_utc
    assert len(leaves) == 1


def test_no_leaf_outlives_the_authority(authority: CertificateAuthority) -> None:
    end = authority.certificate.not_valid_after_utc
    clock = FakeTime(end.timestamp() - DAY)
    leaves, host = LeafCertificates(authority, now=clock), parse_host("api.github.com")
    leaf = leaves.for_host(host)
    assert leaf.certificate.not_valid_after_utc == end
    assert clock.now < leaf.renew_at < end.timestamp()
    clock.now = end.timestamp()
    with pytest.raises(AuthorityExpired, match=r"ca\.pem expired on"):
        leaves.for_host(host)


def test_ten_thousand_names_are_bounded_in_memory(authority: CertificateAuthority) -> None:
    leaves = LeafCertificates(authority)
    for number in range(10_000):
        leaves.for_host(Host(f"h{number}.example"))
    gc.collect()
    # Other tests may have left leaves of their own; these share one key.
    key = leaves.for_host(Host("h9999.example")).key
    alive = [thing for thing in gc.get_objects() if isinstance(thing, Leaf) and thing.key is key]
    assert len(leaves) == len(alive) == 1024


def test_what_is_in_use_stays_in_the_cache(authority: CertificateAuthority) -> None:
    leaves = LeafCertificates(authority, limit=2)
    kept = leaves.for_host(parse_host("kept.example"))
    for number in range(5):
        leaves.for_host(parse_host(f"h{number}.example"))
        assert leaves.for_host(parse_host("kept.example")) is kept


def foreign_authority(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *identifiers: bytes) -> CertificateAuthority:
    """An authority that the user put in place of ours."""
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "corporate")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + timedelta(days=900))
    for identifier in identifiers:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(identifier), False)
    return CertificateAuthority(builder.sign(key, hashes.SHA256()), key, Path("ca.pem"))


@pytest.mark.parametrize(
    ("identifiers", "expected"),
    [
        pytest.param([b"any old bytes"], b"any old bytes", id="the issuer's identifier is repeated byte for byte"),
        pytest.param([], None, id="computed when the issuer has none"),
    ],
)
def test_foreign_authorities_sign_too(identifiers: list[bytes], expected: bytes | None) -> None:
    key = rsa.generate_private_key(65537, 2048)
    authority = foreign_authority(key, *identifiers)
    leaf = LeafCertificates(authority).for_host(parse_host("api.github.com"))
    computed = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    issuer = values(leaf)[x509.AuthorityKeyIdentifier].value
    assert isinstance(issuer, x509.AuthorityKeyIdentifier)
    assert issuer.key_identifier == (expected or computed)
    leaf.certificate.verify_directly_issued_by(authority.certificate)
