"""What processes use: seconds of CPU and bytes of memory, of a process and everything below it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

Row = tuple[int, float, int]
"""Parent, seconds of CPU, bytes of resident memory."""


def cpu(pid: int) -> float:
    """Seconds of CPU that the process and its descendants have used so far. Nothing for one that is gone."""
    if sys.platform == "linux":
        ticks = sum(_ticks(folder) for folder in _family(pid))
        return ticks / os.sysconf("SC_CLK_TCK")
    return sum(seconds for _, seconds, _ in below(_listed(), pid))


def memory(pid: int) -> int:
    """Bytes of resident memory of the process and its descendants."""
    if sys.platform == "linux":
        return sum(_resident(folder) for folder in _family(pid))
    return sum(resident for _, _, resident in below(_listed(), pid))


def _family(pid: int) -> Iterator[Path]:
    fresh = [pid]
    while fresh:
        folder = Path("/proc", str(fresh.pop()))
        yield folder
        with suppress(FileNotFoundError, ProcessLookupError):
            for children in folder.glob("task/*/children"):
                fresh += [int(child) for child in children.read_text().split()]


def _ticks(folder: Path) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        # The name may hold spaces and brackets; after the last bracket there are only numbers.
        numbers = (folder / "stat").read_text().rpartition(")")[2].split()
        return int(numbers[11]) + int(numbers[12])
    return 0


def _resident(folder: Path) -> int:
    """Counted page by page: the numbers in `stat` lag behind."""
    with suppress(OSError):
        for line in (folder / "smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError):
        return int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def busy(cores: Sequence[int], stat: Path = Path("/proc/stat")) -> float | None:
    """Seconds that these cores have worked, whoever for; None where the system does not tell."""
    wanted = {f"cpu{core}" for core in cores}
    with suppress(OSError):
        rows = [line.split() for line in stat.read_text().splitlines()]
        # user nice system idle iowait irq softirq steal: a stolen moment is one that somebody else had.
        ticks = [int(row[place]) for row in rows if row[0] in wanted for place in (1, 2, 3, 6, 7, 8)]
        return sum(ticks) / os.sysconf("SC_CLK_TCK")
    return None


def _listed() -> dict[int, Row]:
    command = ["/bin/ps", "-axo", "pid=,ppid=,time=,rss="]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # fixed words
    return parse_ps(done.stdout)


def parse_ps(listing: str) -> dict[int, Row]:
    """By pid, out of lines of `pid ppid [[dd-]hh:]mm:ss[.cc] rss-in-kB`."""
    rows = (line.split() for line in listing.splitlines())
    return {int(row[0]): (int(row[1]), _seconds(row[2]), int(row[3]) * 1024) for row in rows if len(row) == 4}


def below(rows: dict[int, Row], pid: int) -> Iterator[Row]:
    """The process and its descendants."""
    if row := rows.get(pid):
        yield row
        for child, (parent, _, _) in rows.items():
            if parent == pid:
                yield from below(rows, child)


def _seconds(text: str) -> float:
    days, _, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + 86_400 * int(days or 0)
