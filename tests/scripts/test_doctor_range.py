"""Programs under the doctor's care: ended in time, with everything that they started."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_network_proxy.scripts.doctor_range import Ended, run_bounded
from codex_network_proxy.scripts.doctor_tools import TOOLS, Tool, Try

SHELL = shutil.which("sh") or "sh"
PATIENCE = 10.0


def run(script: str, folder: Path, patience: float = PATIENCE) -> Ended:
    return run_bounded([SHELL, "-c", script], os.environ, folder, time.monotonic() + patience)


def test_what_a_program_says_is_kept(tmp_path: Path) -> None:
    assert run("echo one; echo two >&2; exit 1", tmp_path) == Ended("two", "one\ntwo\n")


def test_a_program_that_ends_well_has_nothing_to_complain_of(tmp_path: Path) -> None:
    assert run("echo warning >&2", tmp_path) == Ended("", "warning\n")


@pytest.fixture
def alive(tmp_path: Path) -> Iterator[int]:
    """The reading end of `alive`: it comes to its end when nobody is left who has opened it for writing."""
    os.mkfifo(tmp_path / "alive")
    os.mkfifo(tmp_path / "never")
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    yield reader
    os.close(reader)


@pytest.mark.parametrize("patience", [0.3, -1.0], ids=["it hangs", "no time is left at all"])
def test_a_program_that_hangs_is_ended_with_its_children(patience: float, alive: int, tmp_path: Path) -> None:
    assert run('exec 9> alive; sh -c "read x < never" & read x < never', tmp_path, patience).late
    assert os.read(alive, 1) == b""


def test_children_in_the_background_do_not_stay(alive: int, tmp_path: Path) -> None:
    assert not run('exec 9> alive; echo x >&9; sh -c "read x < never" > /dev/null 2>&1 &', tmp_path).late
    assert os.read(alive, 9) == b"x\n"
    assert os.read(alive, 9) == b""


def test_a_program_that_cannot_be_started_says_so(tmp_path: Path) -> None:
    assert run_bounded([str(tmp_path / "nowhere")], {}, tmp_path, time.monotonic() + PATIENCE).said == (
        "No such file or directory"
    )


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_program_is_sent_to_the_origin_and_keeps_its_things_in_the_folder(tool: Tool, tmp_path: Path) -> None:
    one = Try("/bin/program", "http://127.0.0.1:1", tmp_path)
    words = [*tool.command(one), *tool.environment(one).values()]
    assert words[0] == "/bin/program"
    assert any(one.url in word for word in words)
    kept = [word for word in words if word.startswith("/") and word != "/bin/program"]
    assert [word for word in kept if not word.startswith(str(tmp_path))] == []
