"""Fills `.venv` from a lock file. Run by prepare.sh under whatever Python was found, so it needs nothing but that.

However it ends, the next start knows where it stands: `.venv/unfinished` lies there from the first change to the last,
and a file lock, which the system drops when its holders die, keeps two starts apart.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What installing the one also provides.
RUNNING = "requirements.lock"
PROVIDES = {RUNNING: (RUNNING,), "requirements-dev.lock": (RUNNING, "requirements-dev.lock")}

# Settings of this machine that would send the packages elsewhere or add others. Indexes, proxies and certificates stay.
MISLEADING = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIREMENT", "PIP_CONSTRAINT", "PIP_EDITABLE")


class SetUpError(Exception):
    """Why there is no `.venv`, and what to do about it."""


def say(text: str) -> None:
    print(f"codex-proxy: {text}", file=sys.stderr, flush=True)


@contextmanager
def alone(root: Path) -> Iterator[int]:
    """Waits for any other set-up of this checkout. Given the descriptor, child processes hold the lock as well."""
    with (root / ".venv.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up of this checkout")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def holds(root: Path, lock: str) -> bool:
    """The same question as in prepare.sh."""
    venv = root / ".venv"
    if (venv / "unfinished").exists() or not os.access(venv / "bin" / "python", os.X_OK):
        return False
    return (venv / lock).is_file() and (venv / lock).read_bytes() == (root / lock).read_bytes()


def interpreter() -> str:
    """The real file behind names and links: it goes away when Python is replaced, and that is then noticed."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def run(program: str, *arguments: str | Path, keep: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in MISLEADING} | {"PIP_USER": "no"}
    command = [program, "-I", "-m", *map(str, arguments)]
    # Fixed words and paths of our own.
    done = subprocess.run(command, pass_fds=(keep,), env=environment, stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    if done.returncode:
        raise SetUpError(f"{arguments[0]} failed with status {done.returncode}, see above; run this again to retry")


def ours(venv: Path) -> bool:
    return any((venv / name).exists() for name in (RUNNING, "unfinished")) or not any(venv.iterdir())


def begin(venv: Path, keep: int) -> None:
    """An empty environment in the place of whatever an earlier set-up left."""
    old = venv.with_name(".venv.old")
    shutil.rmtree(old, ignore_errors=True)
    if venv.is_symlink() or (venv.exists() and not ours(venv)):
        raise SetUpError(f"{venv} was made by something else and is left alone; move it away and run this again")
    if venv.exists():
        # Gone at one stroke: half deleted and still marked complete would be worse than either.
        venv.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    venv.mkdir()
    (venv / "unfinished").touch()
    run(interpreter(), "venv", venv, keep=keep)


def fill(root: Path, lock: str, keep: int) -> None:
    venv = root / ".venv"
    if not holds(root, RUNNING):
        begin(venv, keep)
    (venv / "unfinished").touch()
    for name in PROVIDES[lock]:
        shutil.copyfile(root / name, venv / name)
    quiet = ("--quiet", "--quiet", "--no-input", "--disable-pip-version-check")
    # Hashes for everything, and nothing is built: no code of a package runs before it was checked.
    strict = ("--require-hashes", "--only-binary", ":all:")
    run(str(venv / "bin" / "python"), "pip", "install", *quiet, *strict, "-r", venv / lock, keep=keep)
    (venv / "unfinished").unlink()


def set_up(root: Path, lock: str) -> None:
    with alone(root) as keep:
        if holds(root, lock):
            return
        started = time.monotonic()
        say(f"setting up {root / '.venv'} from {lock}, once, with Python {sys.version.split()[0]}")
        fill(root, lock, keep)
        say(f"ready after {time.monotonic() - started:.0f} s")


def main(arguments: list[str]) -> int:
    try:
        set_up(Path(__file__).resolve().parent.parent, arguments[0])
    except (SetUpError, OSError) as error:
        say(f"set-up stopped: {error}")
        return 1
    except KeyboardInterrupt:
        say("set-up interrupted; the next run begins it anew")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
