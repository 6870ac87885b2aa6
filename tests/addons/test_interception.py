"""What TLS needs at start, and what stops the start."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from codex_network_proxy.addons.interception import TlsFiles, prepare
from codex_network_proxy.addons.secret_sources import EnvironmentSecrets
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.hosts import parse_host
from codex_network_proxy.policy.settings import HookSettings, InjectSettings, NetworkSettings


def hook(*variables: str) -> HookSettings:
    inject = tuple(InjectSettings(name=f"x-{name.lower()}", env=name) for name in variables)
    return HookSettings(0, parse_host("api.test"), ("GET",), ("/",), inject=inject)


def start(home: Path, *, mitm: bool, hooks: Sequence[HookSettings] = (), **environ: str) -> TlsFiles:
    policy = NetworkPolicy.compile(replace(NetworkSettings(), mitm=mitm, hooks=tuple(hooks)))
    return prepare(home, policy, EnvironmentSecrets(environ), environ)


def test_interception_writes_the_authority_and_both_bundles(tmp_path: Path) -> None:
    files = start(tmp_path, mitm=True)
    assert files.interception
    assert files.interception.ca == tmp_path / "proxy" / "ca.pem"
    assert files.interception.ca.read_text().strip() in files.interception.child_bundle.read_text()
    assert files.upstream_bundle
    assert files.interception.ca.read_text().strip() not in files.upstream_bundle.read_text()


def test_both_bundles_load(tmp_path: Path) -> None:
    files = start(tmp_path, mitm=True)
    assert files.interception
    for bundle in (files.interception.child_bundle, files.upstream_bundle):
        assert ssl.create_default_context(cafile=str(bundle)).get_ca_certs()


def test_without_interception_there_are_roots_and_no_authority(tmp_path: Path) -> None:
    files = start(tmp_path, mitm=False)
    assert files.interception is None
    assert files.upstream_bundle
    assert not (tmp_path / "proxy" / "ca.pem").exists()


def test_without_interception_no_secret_is_read(tmp_path: Path) -> None:
    assert start(tmp_path, mitm=False, hooks=[hook("MISSING")]).interception is None


def test_every_missing_secret_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        start(tmp_path, mitm=True, hooks=[hook("ONE", "TWO", "THREE")], TWO="here")
    assert len(refused.value.problems) == 2
    assert "missing required environment variable ONE" in str(refused.value)
    assert "missing required environment variable THREE" in str(refused.value)


def test_a_folder_that_cannot_be_used_stops_interception(tmp_path: Path) -> None:
    (tmp_path / "proxy").write_text("in the way")
    with pytest.raises(ConfigError, match="managed MITM CA"):
        start(tmp_path, mitm=True)


def test_a_folder_that_cannot_be_used_is_a_warning_where_nothing_is_intercepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "proxy").write_text("in the way")
    assert start(tmp_path, mitm=False) == TlsFiles(None, None)
    assert "managed MITM CA directory" in caplog.text
