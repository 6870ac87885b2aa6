"""The trust store for Java: every root of the bundle, written when the bundle changed."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

import pytest

from codex_network_proxy.addons.java_trust import STORE, java_store, write_java_roots
from codex_network_proxy.policy.child_env import JAVA_PASSWORD
from tests.kit.clients import need
from tests.kit.tls import TestAuthority


def listed(store: Path) -> str:
    """What another program finds in it."""
    command = [need("openssl"), "pkcs12", "-in", str(store), "-nokeys", "-passin", f"pass:{JAVA_PASSWORD}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_root_is_in_the_store_and_trusted(authority: TestAuthority, tmp_path: Path) -> None:
    bundle = tmp_path / "ca-bundle.pem"
    bundle.write_bytes(authority.bundle.read_bytes() * 2)
    store = write_java_roots(bundle)
    assert store == tmp_path / STORE
    found = listed(store)
    assert found.count("BEGIN CERTIFICATE") == 2
    assert found.count("2.16.840.1.113894.746875.1.1") == 2, "Java takes others for certificates of somebody"
    assert found.count("friendlyName: root-") == 2


def test_it_is_written_again_when_the_bundle_changed(authority: TestAuthority, tmp_path: Path) -> None:
    bundle = tmp_path / "ca-bundle.pem"
    bundle.write_bytes(authority.bundle.read_bytes())
    os.utime(bundle, ns=(1, 1))
    store = write_java_roots(bundle)
    assert store is not None
    before = store.read_bytes()
    assert write_java_roots(bundle) == store
    assert store.read_bytes() == before
    os.utime(store, ns=(0, 0))
    assert write_java_roots(bundle) == store
    assert store.read_bytes() != before, "the format has a salt"


def test_without_it_there_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert write_java_roots(tmp_path / "missing.pem") is None
    assert caplog.messages == ["no trust store for Java (FileNotFoundError)"]


def test_a_bundle_that_cannot_be_read_is_no_store() -> None:
    with pytest.raises(ValueError, match="PEM"):
        java_store(b"no certificates")
