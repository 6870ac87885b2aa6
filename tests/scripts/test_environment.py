"""Filling .venv: what is kept, what is begun anew, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from codex_network_proxy.scripts import environment
from codex_network_proxy.scripts.environment import SetUpError, holds

RUNNING, DEVELOPING = "requirements.lock", "requirements-dev.lock"


class Programs:
    """Stands in for venv and pip: notes what was run, and what it would have found."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.unfinished: list[bool] = []
        self.fail: str | None = None

    def __call__(self, program: str, *arguments: str | Path, keep: int) -> None:
        module = str(arguments[0])
        venv = Path(arguments[1]) if module == "venv" else Path(arguments[-1]).parent
        self.ran.append(module if module == "venv" else f"pip {Path(arguments[-1]).name}")
        self.unfinished.append((venv / "unfinished").exists())
        if module == self.fail:
            raise SetUpError(f"{module} failed")
        (venv / "bin").mkdir(exist_ok=True)
        (venv / "bin" / "python").write_text("#!/bin/sh\n")
        (venv / "bin" / "python").chmod(0o755)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    programs = Programs()
    monkeypatch.setattr(environment, "run", programs)
    return programs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / RUNNING).write_text("a==1\n")
    (tmp_path / DEVELOPING).write_text("a==1\nb==1\n")
    return tmp_path


def set_up(root: Path, lock: str) -> None:
    environment.set_up(root, lock)
    (root / ".venv" / "a trace of it").touch()


def change_lock(root: Path) -> None:
    (root / RUNNING).write_text("a==2\n")


def leave_unfinished(root: Path) -> None:
    (root / ".venv" / "unfinished").touch()


def lose_python(root: Path) -> None:
    (root / ".venv" / "bin" / "python").unlink()


def only_half_begun(root: Path) -> None:
    (root / ".venv").rename(root / "gone")
    (root / ".venv").mkdir()


def half_deleted(root: Path) -> None:
    """An earlier set-up was killed while it cleared away the one before."""
    (root / ".venv").rename(root / ".venv.old")


def test_a_fresh_checkout_is_filled_and_only_then_complete(root: Path, programs: Programs) -> None:
    environment.set_up(root, RUNNING)
    assert programs.ran == ["venv", "pip requirements.lock"]
    assert programs.unfinished == [True, True]
    assert holds(root, RUNNING)
    assert not holds(root, DEVELOPING)


@pytest.mark.parametrize("lock", [RUNNING, DEVELOPING])
def test_a_complete_one_is_left_as_it_is(root: Path, programs: Programs, lock: str) -> None:
    set_up(root, lock)
    done = len(programs.ran)
    set_up(root, lock)
    set_up(root, RUNNING)
    assert len(programs.ran) == done


def test_developing_adds_to_what_runs(root: Path, programs: Programs) -> None:
    set_up(root, RUNNING)
    set_up(root, DEVELOPING)
    assert programs.ran == ["venv", "pip requirements.lock", "pip requirements-dev.lock"]
    assert programs.unfinished == [True, True, True]
    assert holds(root, RUNNING)
    assert holds(root, DEVELOPING)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(change_lock, id="the lock names something else"),
        pytest.param(leave_unfinished, id="a set-up did not finish"),
        pytest.param(lose_python, id="its Python is gone"),
        pytest.param(only_half_begun, id="a set-up ended before it wrote anything"),
        pytest.param(half_deleted, id="a set-up ended while it cleared away the one before"),
    ],
)
def test_anything_else_is_begun_anew(root: Path, programs: Programs, spoil: Callable[[Path], None]) -> None:
    set_up(root, RUNNING)
    spoil(root)
    assert not holds(root, RUNNING)
    programs.ran.clear()
    environment.set_up(root, RUNNING)
    assert programs.ran == ["venv", "pip requirements.lock"]
    assert holds(root, RUNNING)
    assert not (root / ".venv" / "a trace of it").exists()
    assert not (root / ".venv.old").exists()


@pytest.mark.parametrize("step", ["venv", "pip"])
def test_a_step_that_fails_leaves_it_incomplete(root: Path, programs: Programs, step: str) -> None:
    programs.fail = step
    with pytest.raises(SetUpError, match=step):
        environment.set_up(root, RUNNING)
    assert not holds(root, RUNNING)
    programs.fail = None
    environment.set_up(root, RUNNING)
    assert holds(root, RUNNING)


def somebody_elses(root: Path) -> None:
    (root / ".venv").mkdir()
    (root / ".venv" / "pyvenv.cfg").touch()


def a_link(root: Path) -> None:
    somebody_elses(root)
    (root / ".venv").rename(root / "elsewhere")
    (root / ".venv").symlink_to(root / "elsewhere")


@pytest.mark.parametrize("made", [somebody_elses, a_link])
def test_what_somebody_else_made_is_left_alone(root: Path, programs: Programs, made: Callable[[Path], None]) -> None:
    made(root)
    with pytest.raises(SetUpError, match="was made by something else"):
        environment.set_up(root, RUNNING)
    assert programs.ran == []
    assert (root / ".venv" / "pyvenv.cfg").exists()


def test_settings_that_would_send_packages_elsewhere_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What leads to packages stays: indexes, proxies, certificates."""
    for name in ("PIP_TARGET", "PIP_CONSTRAINT", "PIP_USER", "PIP_INDEX_URL", "PIP_CERT", "https_proxy"):
        monkeypatch.setenv(name, "set")
    program = tmp_path / "python"
    program.write_text(
        '#!/bin/sh\necho "$PIP_TARGET|$PIP_CONSTRAINT|$PIP_USER|$PIP_INDEX_URL|$PIP_CERT|$https_proxy"\n'
    )
    program.chmod(0o755)
    environment.run(str(program), "pip", keep=0)
    assert capfd.readouterr().out == "||no|set|set|set\n"
