"""pip: a download from a package index through the proxy, and a refusal."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.clients import Done, proxy_environment, run
from tests.kit.fleet import Fleet
from tests.kit.index_origin import NAME, make_wheel, package_index
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.tls import TestAuthority

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this environment has no pip")
TLS_NAME = "b.sub.test"


@pytest.fixture(scope="module")
def index(authority: TestAuthority) -> Iterator[HttpOrigin]:
    context = authority.server_context(TLS_NAME)
    with HttpOrigin("index", {"simple": package_index}, tls=context) as running:
        yield running


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


def download(proxy: ProxyProcess, folder: Path, index: str, *options: str) -> Done:
    # What pip knows of a refused tunnel it tells when it tries again.
    command = [sys.executable, "-P", "-m", "pip", "--isolated", "--disable-pip-version-check", "--retries", "1"]
    command += ["download", "--no-deps", "--no-cache-dir", "--index-url", index, *options, "kit-demo"]
    environment = {key: value for key, value in proxy_environment(proxy).items() if "all" not in key.lower()}
    return run(command, folder, environment)


def test_download_in_clear(proxy: ProxyProcess, tmp_path: Path) -> None:
    with HttpOrigin("index", {"simple": package_index}) as server:
        address = f"http://allowed.test:{server.port}/simple"
        done = download(proxy, tmp_path, address, "--trusted-host", "allowed.test")
    assert done.code == 0, done
    assert (tmp_path / NAME).read_bytes() == make_wheel()


def test_download_through_a_tunnel(
    proxy: ProxyProcess, index: HttpOrigin, authority: TestAuthority, tmp_path: Path
) -> None:
    done = download(proxy, tmp_path, f"https://{TLS_NAME}:{index.port}/simple", "--cert", str(authority.bundle))
    assert done.code == 0, done
    assert (tmp_path / NAME).read_bytes() == make_wheel()


def test_a_blocked_index_is_named_with_its_reason(proxy: ProxyProcess, index: HttpOrigin, tmp_path: Path) -> None:
    mark = index.recorder.mark()
    done = download(proxy, tmp_path, f"https://evil.test:{index.port}/simple")
    assert done.code == 1
    assert "Blocked by network policy (blocked-by-allowlist)" in done.out + done.err, done
    assert not index.recorder.since(mark)
