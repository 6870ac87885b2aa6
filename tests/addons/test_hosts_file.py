from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from codex_network_proxy.addons.hosts_file import HostsFile, parse_hosts


@pytest.mark.parametrize(
    ("text", "table"),
    [
        pytest.param("", {}, id="an empty file"),
        pytest.param("192.0.2.1 a.test", {"a.test": ["192.0.2.1"]}, id="a line"),
        pytest.param("192.0.2.1\ta.test  b", {"a.test": ["192.0.2.1"], "b": ["192.0.2.1"]}, id="aliases"),
        pytest.param(
            "192.0.2.1 a.test\n2001:db8::1 a.test\n192.0.2.1 a.test",
            {"a.test": ["192.0.2.1", "2001:db8::1"]},
            id="all lines of a name count, each address once",
        ),
        pytest.param("192.0.2.1 A.Test.", {"a.test": ["192.0.2.1"]}, id="names are folded to the canonical form"),
        pytest.param("# 192.0.2.1 a.test\n192.0.2.2 b.test # c.test", {"b.test": ["192.0.2.2"]}, id="comments"),
        pytest.param("fe80::1%lo0 localhost", {"localhost": ["fe80::1%lo0"]}, id="a scoped address, as on macOS"),
        pytest.param("\n   \nnonsense a.test\n300.0.0.1 a.test\n192.0.2.1", {}, id="lines that make no sense"),
    ],
)
def test_the_lines_of_a_hosts_file(text: str, table: dict[str, list[str]]) -> None:
    assert parse_hosts(text) == {name: tuple(map(ip_address, found)) for name, found in table.items()}


def test_an_edit_is_seen_at_once_and_an_unchanged_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.1 a.test\n")
    hosts = HostsFile(path)
    assert hosts("a.test") == (ip_address("192.0.2.1"),)
    before = os.stat(path)
    path.write_text("192.0.2.2 a.test\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hosts("a.test") == (ip_address("192.0.2.1"),)  # same size, same time: it was not read again
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert hosts("a.test") == (ip_address("192.0.2.2"),)
    assert hosts("b.test") == ()


def test_a_file_that_is_missing_or_no_text_knows_nothing(tmp_path: Path) -> None:
    assert HostsFile(tmp_path / "missing")("a.test") == ()
    assert HostsFile(tmp_path)("a.test") == ()
    (tmp_path / "hosts").write_bytes(b"\xff\xfe 192.0.2.1\n192.0.2.1 a.test\n")
    assert HostsFile(tmp_path / "hosts")("a.test") == (ip_address("192.0.2.1"),)
