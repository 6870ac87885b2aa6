"""The wheel: what is in it, what it adds to an environment, and that it runs from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

from codex_network_proxy import __version__

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "codex_network_proxy"
FOLDERS = ("addons", "policy", "scripts", "socks")

# Python as a user starts it, but for the folder the wheel was installed to.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(*command: str | Path, folder: Path, more: Sequence[tuple[str, str]] = ()) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env={**CLEAN, **dict(more)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*words: str | Path, folder: Path) -> None:
    run(sys.executable, "-I", "-m", "pip", *words, "--quiet", "--no-index", "--no-deps", folder=folder)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, for building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    kept = shutil.ignore_patterns(".*", "__pycache__", "tests", "build", "*.egg-info")
    shutil.copytree(ROOT, folder / "source", ignore=kept)
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, folder / "source", folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    site = wheel.parent / "site"
    pip("install", "--target", site, wheel, folder=wheel.parent)
    return site


def test_the_wheel_adds_one_name_and_no_more(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in ZipFile(wheel).namelist()}
    assert tops == {PACKAGE, f"{PACKAGE}-{__version__}.dist-info"}


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    names = {name for name in ZipFile(wheel).namelist() if name.startswith(f"{PACKAGE}/")}
    modules = {f"{PACKAGE}/{file.relative_to(ROOT)}" for folder in FOLDERS for file in (ROOT / folder).glob("*.py")}
    modules |= {f"{PACKAGE}/{file.name}" for file in (ROOT / PACKAGE).glob("*.py")}
    data = {f"{PACKAGE}/policy/{file.name}" for file in (ROOT / "policy").glob("*.toml")}
    assert names == modules | data | {f"{PACKAGE}/py.typed"}


def test_the_wheel_carries_its_license_and_needs_the_pinned_engine(wheel: Path) -> None:
    archive = ZipFile(wheel)
    details = archive.read(f"{PACKAGE}-{__version__}.dist-info/METADATA").decode()
    assert archive.read(f"{PACKAGE}-{__version__}.dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "Requires-Dist: mitmproxy==12.2.3\n" in details
    assert "Requires-Python: >=3.12\n" in details


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["{site}/bin/codex-proxy"], id="the command"),
        pytest.param([sys.executable, "-P", "-m", PACKAGE], id="python -m"),
    ],
)
def test_the_installed_program_starts(installed: Path, tmp_path: Path, command: list[str]) -> None:
    words = [word.format(site=installed) for word in command]
    said = run(*words, "--version", folder=tmp_path, more=[("PYTHONPATH", str(installed))])
    assert said == f"codex-proxy {__version__}\n"


def test_the_installed_entry_point_builds_its_chain_and_pysocks_stays(installed: Path, tmp_path: Path) -> None:
    script = installed / PACKAGE / "addons" / "codex.py"
    code = (
        "import sys; from mitmproxy.addons.script import load_script; module = load_script(sys.argv[1]);"
        f"import socks; from {PACKAGE}.socks import relay;"
        "print(len(module.addons) > 0, hasattr(socks, 'socksocket'), relay.__file__)"
    )
    said = run(sys.executable, "-P", "-c", code, script, folder=tmp_path)
    assert said == f"True True {installed / PACKAGE / 'socks' / 'relay.py'}\n"


def test_the_checkout_has_the_version_of_its_wheel(tmp_path: Path) -> None:
    said = run(sys.executable, "-I", ROOT / "scripts" / "launch.py", "--version", folder=tmp_path)
    assert said == f"codex-proxy {__version__}\n"
