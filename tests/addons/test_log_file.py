from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_network_proxy.addons.log_file import RotatingLogFile, make_private_directory

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o000, 0o077], ids=lambda umask: f"umask {umask:03o}")
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_file_and_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "home" / "log" / "audit.jsonl"
    file = RotatingLogFile(path)
    file.append(b"one\n")
    file.close()
    file.close()  # closing twice is no fault
    assert [mode(path), mode(path.parent), mode(path.parent.parent)] == [0o600, 0o700, 0o700]


def test_a_folder_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private_directory(tmp_path)
    assert mode(tmp_path) == 0o755


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("old\n")
    path.chmod(0o644)
    file = RotatingLogFile(path)
    file.append(b"new\n")
    file.close()
    assert (mode(path), path.read_text()) == (0o600, "old\nnew\n")


def test_a_full_file_is_moved_on_and_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    file = RotatingLogFile(path, max_bytes=10, keep=2)
    for number in range(5):
        assert file.append(f"line {number}\n".encode()) == 7
    file.close()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert [path.read_text(), _rotated(path, 1).read_text(), _rotated(path, 2).read_text()] == [
        "line 4\n",
        "line 3\n",
        "line 2\n",
    ]
    assert [mode(path), mode(_rotated(path, 1))] == [0o600, 0o600]


def _rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def test_the_size_counts_what_an_earlier_run_left(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"12345678\n")
    file = RotatingLogFile(path, max_bytes=10)
    file.open()
    file.append(b"new\n")
    file.close()
    assert (_rotated(path, 1).read_bytes(), path.read_bytes()) == (b"12345678\n", b"new\n")


def test_a_batch_larger_than_the_limit_still_goes_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    file = RotatingLogFile(path, max_bytes=4)
    assert file.append(b"much longer\n") == 12
    file.close()
    assert os.listdir(tmp_path) == ["audit.jsonl"]


def test_events_are_not_lost_when_the_file_cannot_be_rotated(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    _rotated(path, 1).mkdir()  # nothing can be moved there
    (_rotated(path, 1) / "in the way").touch()
    file = RotatingLogFile(path, max_bytes=10, keep=1)
    for _ in range(3):
        file.append(b"line\n" * 2)
    file.close()
    assert path.read_bytes() == b"line\n" * 6


def test_a_file_moved_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    path, moved = tmp_path / "audit.jsonl", tmp_path / "moved.jsonl"
    file = RotatingLogFile(path)
    file.append(b"one\n")
    path.rename(moved)
    file.append(b"two\n")
    file.close()
    assert (moved.read_text(), path.read_text()) == ("one\n", "two\n")


def test_a_file_replaced_by_another_is_left_alone_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    file = RotatingLogFile(path)
    file.append(b"one\n")
    path.rename(tmp_path / "moved.jsonl")
    path.write_text("by logrotate\n")
    file.append(b"two\n")
    file.close()
    assert path.read_text() == "by logrotate\ntwo\n"


def test_a_folder_that_vanished_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "log" / "audit.jsonl"
    file = RotatingLogFile(path)
    file.append(b"one\n")
    shutil.rmtree(path.parent)
    file.append(b"two\n")
    file.close()
    assert (path.read_text(), mode(path.parent)) == ("two\n", 0o700)


def test_a_line_that_an_earlier_crash_tore_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('{"torn":')
    file = RotatingLogFile(path)
    file.append(b"{}\n")
    file.close()
    assert path.read_text() == '{"torn":\n{}\n'


ON_A_SMALL_DISK = """
import os, resource, signal, sys
from pathlib import Path
from codex_network_proxy.addons.log_file import RotatingLogFile

def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = RotatingLogFile(Path(sys.argv[1]))
room(10)
"""


def on_a_small_disk(code: str, path: Path) -> list[str]:
    """What the code prints where files end after 10 bytes. The limit holds for a whole process, so it has its own."""
    modules = Path(__file__).resolve().parents[2] / ".typing"
    done = subprocess.run(
        [sys.executable, "-P", "-c", ON_A_SMALL_DISK + code, path],
        env={"PYTHONPATH": str(modules)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_a_disk_that_fills_up_takes_whole_lines_and_tears_at_most_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    code = """
print(file.append(b"one\\ntwo\\nthree\\n"))
try:
    file.append(b"three\\n")
except OSError as error:
    print(error.errno)
room(100)
print(file.append(b"three\\n"))
file.close()
"""
    assert on_a_small_disk(code, path) == ["8", str(errno.EFBIG), "6"]
    assert path.read_bytes() == b"one\ntwo\nth\nthree\n"


@linux_only
def test_a_full_disk_is_an_error_for_the_caller() -> None:
    file = RotatingLogFile(Path("/dev/full"), max_bytes=1)
    file.open()
    with pytest.raises(OSError, match="No space left on device"):
        file.append(b"one\n")
    file.close()


def test_a_device_is_written_and_never_rotated_or_chmodded() -> None:
    before = mode(Path("/dev/null"))
    file = RotatingLogFile(Path("/dev/null"), max_bytes=1)
    assert [file.append(b"one\n"), file.append(b"two\n")] == [4, 4]
    file.close()
    assert mode(Path("/dev/null")) == before


def test_a_directory_in_its_place_is_an_error_and_leaks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.mkdir()
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(IsADirectoryError):
        RotatingLogFile(path).append(b"one\n")
    assert len(os.listdir("/dev/fd")) == before


def test_a_file_in_place_of_its_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    with pytest.raises(FileExistsError):
        RotatingLogFile(tmp_path / "log" / "audit.jsonl").append(b"one\n")


def test_a_file_that_cannot_be_prepared_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("torn line, 10 bytes and more")
    code = """
before = len(os.listdir("/dev/fd"))
try:
    file.open()
except OSError as error:
    print(error.errno)
print(len(os.listdir("/dev/fd")) - before)
"""
    assert on_a_small_disk(code, path) == [str(errno.EFBIG), "0"]
