"""The lock files: complete, alike, for every platform, and silent about where packages come from."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNNING, DEVELOPING = "requirements.lock", "requirements-dev.lock"

# A pinned package: name, version, condition, hashes.
PIN = re.compile(r"^([a-z0-9-]+)==(\S+) ; ([^\n]*?) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def pins(lock: str) -> dict[str, list[tuple[str, str, int]]]:
    """Package to (version, condition, number of hashes)."""
    found = defaultdict(list)
    for name, version, condition, hashes in PIN.findall((ROOT / lock).read_text()):
        found[name].append((version, condition, hashes.count("sha256:")))
    return found


@pytest.mark.parametrize("lock", [RUNNING, DEVELOPING])
def test_a_lock_holds_pins_with_hashes_and_nothing_else(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert re.findall(r"://|--[a-z-]*index|--find-links|--trusted-host| @ ", text) == []
    rest = PIN.sub("", text)
    assert [line for line in rest.splitlines() if not line.startswith("#")] == []


def test_developing_adds_to_running_and_changes_nothing() -> None:
    running, developing = pins(RUNNING), pins(DEVELOPING)
    assert {name: developing[name] for name in running} == running
    assert {"pytest", "mypy", "ruff", "opentelemetry-sdk"} <= developing.keys() - running.keys()


def test_the_engine_is_pinned_to_the_release_whose_inner_parts_are_used() -> None:
    assert [version for version, _, _ in pins(RUNNING)["mitmproxy"]] == ["12.2.3"]


@pytest.mark.parametrize("name", ["cryptography", "pydantic-core", "zstandard", "brotli", "cffi", "tornado"])
def test_packages_with_compiled_parts_have_the_hashes_of_all_platforms(name: str) -> None:
    """A wheel that lay about on the machine which wrote the lock would be the only one."""
    assert all(count >= 10 for _, _, count in pins(RUNNING)[name])


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_the_engine_has_its_part_for_each_system(system: str) -> None:
    part = {"linux": "mitmproxy-linux", "darwin": "mitmproxy-macos"}[system]
    assert [condition for _, condition, _ in pins(RUNNING)[part]] == [f"sys_platform == '{system}'"]
