"""Files in a directory of our own: vetted before they are read, written whole or not at all (spec A7, B6.3).

Needs POSIX modes, hard links and `flock`: Linux and macOS.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GROUP_OR_WORLD = 0o077
WRITABLE_BY_OTHERS = 0o022
SIZE_LIMIT = 1 << 20
_OPEN_WITHOUT_SURPRISES = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_SYMLINK = frozenset({errno.ELOOP, errno.EMLINK})


class FileRefused(Exception):
    """A file or directory that is not safe to use or does not hold what it should. The text names the repair."""


def ensure_private_directory(path: Path, what: str) -> None:
    """Makes `path` with mode 0700, or vets the one that is there. Raises `FileRefused`.

    One that others can only read is repaired. One that others can write is refused: what lies in it may be theirs.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        raise FileRefused(f"refusing to use symlink for {what} {path}; put a real directory there")
    if not stat.S_ISDIR(status.st_mode):
        raise FileRefused(f"{what} is not a directory: {path}")
    if status.st_uid not in (os.geteuid(), path.parent.stat().st_uid):
        raise FileRefused(f"{what} {path} belongs to another user (uid {status.st_uid})")
    if mode & WRITABLE_BY_OTHERS:
        raise FileRefused(
            f"{what} {path} must not be writable by others (mode={mode:o}; expected 700); "
            f"remove files there that are not yours, then run: chmod 700 {path}"
        )
    if mode != 0o700:
        path.chmod(0o700)


def read_vetted(path: Path, what: str, *, forbidden: int, complaint: str, expected: int) -> bytes | None:
    """The file's content, or None when there is no such file. Raises `FileRefused`.

    Refused are symlinks, anything but a regular file, and every mode that has a bit of `forbidden`. The file that
    was vetted is the file that is read, whatever happens to the name meanwhile.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _OPEN_WITHOUT_SURPRISES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileRefused(_cannot_open(path, what, error)) from None
    try:
        status = os.fstat(descriptor)
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode):
            raise FileRefused(f"{what} is not a regular file: {path}")
        if mode & forbidden:
            raise FileRefused(
                f"{what} {path} must not be {complaint} (mode={mode:o}; expected <= {expected:o}); "
                f"run: chmod {expected:o} {path}"
            )
        return _read_all(descriptor, path, what)
    finally:
        os.close(descriptor)


def _cannot_open(path: Path, what: str, error: OSError) -> str:
    if error.errno in _SYMLINK:
        return f"refusing to use symlink for {what} {path}; put the file itself there"
    if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):
        return f"{what} is not a regular file: {path}"
    return f"cannot read {what} {path}: {error.strerror}"


def _read_all(descriptor: int, path: Path, what: str) -> bytes:
    content = bytearray()
    while chunk := os.read(descriptor, 65536):
        content += chunk
        if len(content) > SIZE_LIMIT:
            raise FileRefused(f"{what} {path} is larger than {SIZE_LIMIT} bytes")
    return bytes(content)


def create_once(path: Path, content: bytes, mode: int) -> None:
    """Writes a new file whole, with exactly `mode` whatever the umask. Never overwrites: raises `FileRefused`."""
    temporary = _write_temporary(path, content, mode)
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        raise FileRefused(f"refusing to overwrite existing file {path}") from None
    finally:
        temporary.unlink()
    _sync_directory(path.parent)


def replace_whole(path: Path, content: bytes, mode: int) -> None:
    """Puts `content` in the place of whatever `path` holds, at once: readers see the old file or the new one."""
    temporary = _write_temporary(path, content, mode)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    _sync_directory(path.parent)


def _write_temporary(path: Path, content: bytes, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.tmp.{os.getpid()}.{time.time_ns()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN_WITHOUT_SURPRISES, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        temporary.unlink()
        raise
    return temporary


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Holds `lock` while the body runs; another process waits its turn. A process that dies lets go."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | _OPEN_WITHOUT_SURPRISES, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
