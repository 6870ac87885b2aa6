"""The shell half of scripts/codex-proxy: it finds Python, sets up once, and then gets out of the way."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "codex_network_proxy"

# Everything the commands may use besides Python.
TOOLS = ("sh", "cat", "cmp", "dirname", "readlink")

PROGRAM = """
import sys, tiny
def main():
    print(sys.argv[1:], sys.flags.isolated, sys.prefix, tiny.__file__)
    return 7
"""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PATH on which there is no Python."""
    folder = tmp_path_factory.mktemp("tools")
    for name in TOOLS:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return folder


@pytest.fixture(scope="module")
def lock_line(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pins a package that lies on this disk."""
    wheel = tmp_path_factory.mktemp("wheel") / "tiny-1-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        archive.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.dist-info/RECORD", "")
    return f"tiny @ {wheel.as_uri()} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@pytest.fixture
def checkout(tmp_path: Path, lock_line: str) -> Path:
    """The real scripts around a small program, in a folder whose name has a space."""
    root = tmp_path / "a checkout"
    (root / PACKAGE).mkdir(parents=True)
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__", "[!_el]*.py"))
    shutil.copy(ROOT / PACKAGE / "__init__.py", root / PACKAGE)
    (root / "scripts" / "cli.py").write_text(PROGRAM)
    (root / "requirements.lock").write_text(lock_line)
    return root


def start(script: Path, *words: str, path: str | Path = "", **more: str) -> subprocess.Popen[str]:
    environment = {"PATH": str(path), "HOME": str(script.parent / "no home"), **more}
    return subprocess.Popen(
        [script, *words],
        cwd=script.parent.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: Path, *words: str, path: str | Path = "", **more: str) -> tuple[int, str, str]:
    child = start(script, *words, path=path, **more)
    out, err = child.communicate(timeout=60)
    return child.returncode, out, err


def with_python(tools: Path) -> str:
    """The tools, and the interpreter of this test under its usual name."""
    return f"{tools}:{Path(os.path.realpath(sys.executable)).parent}"


def test_the_first_start_sets_up_and_the_next_goes_straight_to_the_program(checkout: Path, tools: Path) -> None:
    link = checkout.parent / "a link"
    link.symlink_to(checkout / "scripts" / "codex-proxy")
    hindrances = {"PIP_TARGET": "/nowhere", "PIP_USER": "1", "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}
    expected = f"['one', 'two words'] 1 {checkout / '.venv'} "

    code, out, err = run(link, "one", "two words", path=with_python(tools), **hindrances)
    assert (code, out.startswith(expected)) == (7, True), err
    assert "setting up" in err
    assert "ready after" in err

    # No Python to be found, no index to be asked: nothing but what is in .venv.
    code, out, err = run(checkout / "scripts" / "codex-proxy", "one", "two words", path=tools, **hindrances)
    assert (code, out.startswith(expected), err) == (7, True, "")


def test_two_first_starts_at_once_set_up_once(checkout: Path, tools: Path) -> None:
    children = [start(checkout / "scripts" / "codex-proxy", path=with_python(tools)) for _ in range(2)]
    ends = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [7, 7], ends
    assert sum("setting up" in err for _, err in ends) == 1


def test_a_package_with_another_hash_is_not_installed(checkout: Path, tools: Path) -> None:
    lock = checkout / "requirements.lock"
    lock.write_text(lock.read_text().partition("sha256:")[0] + f"sha256:{'0' * 64}\n")
    code, out, err = run(checkout / "scripts" / "codex-proxy", path=with_python(tools))
    assert (code, out) == (1, "")
    assert "DO NOT MATCH THE HASHES" in err
    assert "set-up stopped: pip failed" in err
    assert (checkout / ".venv" / "unfinished").exists()


def test_without_python_it_says_what_to_install(checkout: Path, tools: Path) -> None:
    code, out, err = run(checkout / "scripts" / "codex-proxy", path=tools)
    assert (code, out) == (1, "")
    assert err.startswith("codex-proxy needs Python 3.12 or newer")
    assert not (checkout / ".venv").exists()


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


GOOD = f'exec "{sys.executable}" "$@"'
OLD = f'exec "{sys.executable}" -c "raise SystemExit(1)"'


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        pytest.param({"bin/python3.12": GOOD, "bin/python3": GOOD}, "python3.12", id="the exact name goes first"),
        pytest.param(
            {"bin/python3.13": "exit 127", "bin/python3": GOOD}, "python3", id="a shim with nothing behind it"
        ),
        pytest.param({"bin/python3": OLD, "home/.pyenv/versions/3.12.1/bin/python3": GOOD}, "{home}", id="pyenv"),
        pytest.param(
            {"bin/python3": OLD, "bin/uv": "echo {base}/uv python", "uv python": GOOD}, "{base}/uv python", id="uv"
        ),
        pytest.param({"bin/python3": OLD, "bin/uv": "exit 2"}, "none", id="nothing new enough"),
    ],
)
def test_python_is_found_by_trying(tmp_path: Path, tools: Path, there: dict[str, str], expected: str) -> None:
    for name, text in there.items():
        program(tmp_path / name, text.format(base=tmp_path))
    words = {"base": str(tmp_path), "home": str(tmp_path / "home/.pyenv/versions/3.12.1/bin/python3")}
    script = f'. "{ROOT}/scripts/prepare.sh"; find_python && printf %s "$python" || printf none'
    said = subprocess.run(
        ["/bin/sh", "-c", script],
        env={"PATH": f"{tmp_path / 'bin'}:{tools}", "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == expected.format(**words)


def complete(root: Path) -> None:
    pass


def change_lock(root: Path) -> None:
    (root / "requirements.lock").write_text("another==1\n")


def leave_unfinished(root: Path) -> None:
    (root / ".venv" / "unfinished").touch()


def lose_python(root: Path) -> None:
    (root / ".venv" / "bin" / "python").unlink()
    (root / ".venv" / "bin" / "python").symlink_to("/nowhere")


@pytest.mark.parametrize(
    ("spoil", "sets_up"),
    [
        pytest.param(complete, False, id="complete"),
        pytest.param(change_lock, True, id="the lock names something else"),
        pytest.param(leave_unfinished, True, id="a set-up did not finish"),
        pytest.param(lose_python, True, id="its Python is gone"),
    ],
)
def test_set_up_is_called_when_it_is_needed(
    checkout: Path, tools: Path, spoil: Callable[[Path], None], sets_up: bool
) -> None:
    """The same question as `holds` in environment.py, asked in shell."""
    (checkout / "scripts" / "environment.py").write_text("raise SystemExit(5)\n")
    program(checkout / ".venv" / "bin" / "python", "exit 0")
    shutil.copy(checkout / "requirements.lock", checkout / ".venv")
    spoil(checkout)
    code, _, _ = run(checkout / "scripts" / "codex-proxy", path=with_python(tools))
    assert code == (5 if sets_up else 0)
