"""The entry point for `-s`: however mitmproxy finds it, the code beside it runs and nobody's modules are hidden."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "codex_network_proxy"

# Loads the scripts it is given as mitmproxy does, one after the other, and tells what came of it.
LOADER = """
import json, logging, sys
logging.basicConfig(format="%(message)s: %(exc_info)s")
from mitmproxy.addons.script import load_script
before = list(sys.path)
loaded = [load_script(path) for path in sys.argv[1:]]
import socks
print(json.dumps({
    "addons": [None if module is None else [str(addon) for addon in module.addons] for module in loaded],
    "package": sys.modules["codex_network_proxy"].__file__,
    "pysocks": hasattr(socks, "socksocket"),
    "path": [entry for entry in sys.path if entry not in before],
}))
"""


def load(*scripts: str | Path, folder: Path) -> tuple[dict[str, Any], str]:
    """What LOADER found, and what was logged."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-P", "-c", LOADER, *map(str, scripts)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found, done.stderr


def lay_out(root: Path, inside: Path) -> Path:
    """The real entry point with a chain that says where it lies; `inside` is the folder of the package's `__init__`."""
    for name in ("addons/__init__.py", "addons/codex.py", "scripts/__init__.py", "scripts/launch.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    inside.mkdir(exist_ok=True)
    shutil.copy(ROOT / PACKAGE / "__init__.py", inside)
    (root / "socks").mkdir()
    (root / "socks" / "__init__.py").write_text("HERE = __file__\n")
    (root / "addons" / "bundle.py").write_text(
        f"from {PACKAGE}.socks import HERE\ndef build():\n    return [__file__, HERE]\n"
    )
    return root


@pytest.fixture(params=["checkout", "installed"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "checkout":
        root = tmp_path / "a checkout"
        return lay_out(root, root / PACKAGE)
    root = tmp_path / "site packages" / PACKAGE
    return lay_out(root, root)


@pytest.mark.parametrize(
    ("folder", "script"),
    [
        pytest.param(".", "{root}/addons/codex.py", id="an absolute path"),
        pytest.param("{root}", "addons/codex.py", id="a relative path from the checkout"),
        pytest.param("{root}/addons", "codex.py", id="a bare name from its own folder"),
        pytest.param(".", "elsewhere/linked.py", id="a link from another folder"),
        pytest.param("{root}", "linked.py", id="a link beside the folder socks"),
    ],
)
def test_the_code_beside_the_script_runs_and_pysocks_stays(
    root: Path, tmp_path: Path, folder: str, script: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    for link in (tmp_path / "elsewhere" / "linked.py", root / "linked.py"):
        link.symlink_to(root / "addons" / "codex.py")
    found, log = load(script.format(root=root), folder=tmp_path / folder.format(root=root))
    assert found["addons"] == [[str(root / "addons" / "bundle.py"), str(root / "socks" / "__init__.py")]], log
    assert found["pysocks"]
    assert found["path"] == []


def test_a_script_that_is_loaded_again_builds_again(root: Path, tmp_path: Path) -> None:
    script = root / "addons" / "codex.py"
    found, log = load(script, script, folder=tmp_path)
    first, second = found["addons"]
    assert first == second != [], log
    assert found["path"] == []


def test_a_second_copy_in_one_process_is_refused(tmp_path: Path) -> None:
    one, two = (lay_out(tmp_path / name, tmp_path / name / PACKAGE) for name in ("one", "two"))
    found, log = load(one / "addons" / "codex.py", two / "addons" / "codex.py", folder=tmp_path)
    assert found["addons"][0] is not None
    assert found["addons"][1] is None
    assert f"already loaded from {one}" in log


def test_a_package_that_cannot_be_loaded_leaves_nothing_half_loaded(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "one", tmp_path / "one" / PACKAGE)
    (root / PACKAGE / "__init__.py").write_text("raise RuntimeError('broken on purpose')\n")
    whole = lay_out(tmp_path / "two", tmp_path / "two" / PACKAGE)
    found, log = load(root / "addons" / "codex.py", whole / "addons" / "codex.py", folder=tmp_path)
    assert "broken on purpose" in log
    assert found["addons"][0] is None
    assert found["package"] == str(whole / PACKAGE / "__init__.py")


def test_the_real_script_builds_the_real_chain(tmp_path: Path) -> None:
    found, log = load(ROOT / "addons" / "codex.py", folder=tmp_path)
    assert found["addons"] not in ([None], [[]]), log
    assert found["package"] == str(ROOT / PACKAGE / "__init__.py")
    assert found["pysocks"]


def needed_by(*names: str) -> set[str]:
    """The distributions that installing these brings, by what is installed here."""
    waiting, found = list(names), set[str]()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        required = [Requirement(text) for text in metadata.requires(name) or ()]
        waiting += [need.name for need in required if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


# Puts the modules of every other package out of reach, as on a machine where they were never installed.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import logging
logging.basicConfig()
from mitmproxy.addons.script import load_script
module = load_script(sys.argv[1])
print(len(module.addons) if module else 0)
"""


def test_mitmproxy_pydantic_and_tomli_are_enough_for_the_real_script(tmp_path: Path) -> None:
    needed = needed_by("mitmproxy", "pydantic", "tomli")
    hidden = {
        module
        for module, distributions in metadata.packages_distributions().items()
        if not needed & {canonicalize_name(name) for name in distributions}
    }
    assert {"idna", "requests", "httpx"} <= hidden
    code = WITHOUT.format(hidden=hidden - set(sys.stdlib_module_names))
    command = [sys.executable, "-P", "-c", code, str(ROOT / "addons" / "codex.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0, done.stderr
