"""From an empty folder to a package behind the proxy, in two commands."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.kit.clients import run
from tests.kit.index_origin import NAME, make_wheel, package_index
from tests.kit.origins import HttpOrigin
from tests.kit.process import REPO, python
from tests.kit.tls import TestAuthority
from tests.kit.world import World

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this environment has no pip")


def test_init_and_run(authority: TestAuthority, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {"CODEX_HOME": str(home), **World(home / "world").environment}
    launch = REPO / "scripts" / "launch.py"

    first = run(python(launch, "init", "--preset", "python"), tmp_path, environment)
    assert (first.code, first.out) == (0, f"wrote {home}/config.toml\n")

    # The index stands on this machine, which the file keeps closed.
    file = home / "config.toml"
    file.write_text(file.read_text().replace("allow_local_binding = false", "allow_local_binding = true"))
    with HttpOrigin("index", {"simple": package_index}, tls=authority.server_context("pypi.org")) as index:
        url = f"https://pypi.org:{index.port}/simple"
        pip = [sys.executable, "-P", "-m", "pip", "--isolated", "--disable-pip-version-check", "--retries", "0"]
        download = [*pip, "download", "--no-deps", "--no-cache-dir", "--cert", str(authority.bundle), "kit-demo"]
        command = python(launch, "run", "--resolve", "pypi.org=127.0.0.1", "--", *download, "--index-url")
        second = run([*command, url], tmp_path, environment)
        assert second.code == 0, second
        assert (tmp_path / NAME).read_bytes() == make_wheel()
        third = run([*command, url.replace("pypi.org", "evil.test")], tmp_path, environment)
    assert third.code == 1
    assert f"not in allowed_domains  --allow evil.test:{index.port}" in third.err
