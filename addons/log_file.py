"""An append-only log file: private, rotated by size, opened anew when it was moved away or its folder vanished."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024
KEEP = 5


def make_private_directory(directory: Path) -> None:
    """Makes the directory and every missing parent, each with mode 0700. Raises `OSError`."""
    if directory.is_dir():
        return
    make_private_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)


class RotatingLogFile:
    """Appends whole lines to `path` (mode 0600); full, it becomes `path.1` and so on up to `path.<keep>`.

    Devices and pipes work as well; they are never rotated. Not thread-safe: one thread writes.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._fd: int | None = None
        self._size = 0
        self._regular = False

    def open(self) -> None:
        """Opens or makes the file, and its folders. Nothing to do when it is open already. Raises `OSError`."""
        self._descriptor()

    def append(self, lines: bytes) -> int:
        """Appends whole lines; answers how many bytes of whole lines went in. Raises `OSError` when none did.

        Fewer bytes than given is what a filling disk does. A line torn by it is to be given again: the next call
        ends the fragment, so that only one line of the file is unreadable.
        """
        if self._fd is not None and self._was_moved(self._fd):
            self.close()
        if self._fd is not None and self._regular and 0 < self._size > self._max_bytes - len(lines):
            self._rotate()
        written = os.write(self._descriptor(), lines)
        self._size += written
        if written == len(lines):
            return written
        self.close()
        return lines.rfind(b"\n", 0, written) + 1

    def close(self) -> None:
        """Closes the file; the next `append` opens it again."""
        if self._fd is not None:
            fd, self._fd, self._regular = self._fd, None, False
            os.close(fd)

    def _descriptor(self) -> int:
        if self._fd is None:
            make_private_directory(self._path.parent)
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY, 0o600)
            try:
                self._prepare(fd)
            except OSError:
                os.close(fd)
                raise
            self._fd = fd
        return self._fd

    def _prepare(self, fd: int) -> None:
        there = os.fstat(fd)
        self._regular = stat.S_ISREG(there.st_mode)
        self._size = there.st_size if self._regular else 0
        if not self._regular:
            return
        if stat.S_IMODE(there.st_mode) != 0o600:
            with contextlib.suppress(PermissionError):  # another user's file: writing may still be allowed
                os.fchmod(fd, 0o600)
        if self._size and not self._ends_with_newline():
            self._size += os.write(fd, b"\n")

    def _ends_with_newline(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _was_moved(self, fd: int) -> bool:
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(fd))
        except OSError:
            return True

    def _rotate(self) -> None:
        self.close()
        # A folder that forbids renaming must not cost events: the file then grows, and the next batch tries again.
        with contextlib.suppress(OSError):
            for number in range(self._keep - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self._numbered(number), self._numbered(number + 1))
            os.replace(self._path, self._numbered(1))

    def _numbered(self, number: int) -> str:
        return f"{self._path}.{number}"
