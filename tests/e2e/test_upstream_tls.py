"""The other side of interception: origins whose certificate does not hold get no request, and the client learns why."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.clients import need
from tests.kit.fleet import Fleet
from tests.kit.hooks import API, CANARY, SECRET_VARIABLE, Hook, Inject, inspecting
from tests.kit.inner import INNER_DOORS, Inner, InnerDoor
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import exchange, get
from tests.kit.tls import TestAuthority

POLICY = inspecting(Hook(API, inject=(Inject(),)))
NOT_TRUSTED = "upstream failure: the origin's certificate is not trusted"
doors = pytest.mark.parametrize("door", [pytest.param(door, id=door.name) for door in INNER_DOORS])

CERTIFICATES = ["of another name", "that has expired", "of an unknown issuer"]
REASONS = {
    "of another name": "hostname mismatch",
    "that has expired": "certificate has expired",
    "of an unknown issuer": "unable to get local issuer certificate",
}


@pytest.fixture(params=CERTIFICATES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, authority: TestAuthority, tmp_path: Path) -> Iterator[HttpOrigin]:
    contexts = {
        "of another name": lambda: authority.server_context("other.test"),
        "that has expired": lambda: authority.server_context(API, expired=True),
        "of an unknown issuer": lambda: TestAuthority(tmp_path).server_context(API),
    }
    with HttpOrigin("bad", tls=contexts[kind]()) as running:
        yield running


@doors
def test_nothing_is_sent_to_an_origin_with_a_certificate(
    kind: str, door: InnerDoor, server: HttpOrigin, inspected: Fleet
) -> None:
    outcome = door.send(inspected.get(POLICY), f"{API}:{server.port}".encode(), Inner(b"POST", b"/t", body=b"x" * 999))
    assert outcome.word == "failed"
    door.check(outcome)
    assert outcome.answer.text == f"{NOT_TRUSTED} ({REASONS[kind]})"
    assert not server.recorder.heads
    assert not server.recorder.received


def test_https_in_absolute_form_is_verified_as_well(kind: str, server: HttpOrigin, inspected: Fleet) -> None:
    answer = exchange(inspected.get(POLICY).http, get(f"https://{API}:{server.port}/t"))
    assert (answer.status, answer.text) == (502, f"{NOT_TRUSTED} ({REASONS[kind]})")
    assert not server.recorder.received


@doors
def test_one_bad_origin_does_not_spoil_the_next(door: InnerDoor, inspected: Fleet, tls_origin: HttpOrigin) -> None:
    assert door.send(inspected.get(POLICY), f"{API}:{tls_origin.port}".encode(), Inner(path=b"/t")).word == "passed"


@pytest.fixture(scope="module")
def hashed(authority: TestAuthority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as OpenSSL wants it for SSL_CERT_DIR."""
    folder = tmp_path_factory.mktemp("hashed")
    (folder / "kit.pem").write_bytes(authority.bundle.read_bytes())
    subprocess.run([need("openssl"), "rehash", folder], check=True, capture_output=True)
    return folder


TRUST = ["nothing", "SSL_CERT_FILE", "SSL_CERT_DIR"]


@pytest.mark.parametrize("told", TRUST)
def test_the_users_own_roots_count(
    told: str, hashed: Path, authority: TestAuthority, tls_origin: HttpOrigin, tmp_path: Path
) -> None:
    roots = {"nothing": {}, "SSL_CERT_FILE": {told: str(authority.bundle)}, "SSL_CERT_DIR": {told: str(hashed)}}[told]
    with ProxyProcess(tmp_path, POLICY, environment={SECRET_VARIABLE: CANARY, **roots}) as proxy:
        answer = exchange(proxy.http, get(f"https://{API}:{tls_origin.port}/t"))
        trusted = (authority.bundle.read_bytes().split(b"\n")[1]) in proxy.ca_bundle.read_bytes()
    if told == "nothing":
        assert (answer.status, answer.text) == (502, f"{NOT_TRUSTED} (unable to get local issuer certificate)")
    else:
        assert answer.status == 200, answer
    assert trusted == (told != "nothing"), "child programs are given the same roots"
