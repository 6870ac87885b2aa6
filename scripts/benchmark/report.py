"""The table on the terminal, and the same as ratios for docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .decisions import Cost
from .rounds import Row, Size, Spread
from .targets import DIRECT, STOCK

BEGIN, END = "<!-- measured: scripts/bench --write -->", "<!-- end of measured -->"

LIMITS = {"proxy": "the proxy", "load": "client and origin", "both": "both", "neither": "neither"}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run has found. `others` are the names of those we were compared with, in order."""

    others: Sequence[str]
    rows: Sequence[Row]
    sizes: Sequence[Size]
    costs: Sequence[Cost]
    rounds: int
    pinned: bool
    patterns: int
    foreign: float = 0.0  # the part of the cores' time that other programs took


def number(value: float) -> str:
    """Two digits that mean something."""
    if value >= 9.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1.95 else f"{value:.2f}"


def times(spread: Spread | None, at_least: bool = False) -> str:
    """`3.4 (3.1-3.8)`: the median and the extremes; nothing where there was no comparison."""
    if spread is None:
        return ""
    sign = "≥ " if at_least else ""
    if spread.low == spread.high:
        return f"{sign}{number(spread.median)}"
    return f"{sign}{number(spread.median)} ({number(spread.low)}–{number(spread.high)})"  # noqa: RUF001


def speed_head(report: Report) -> list[str]:
    return ["how many times as fast as", *map(_name, report.others), f"{STOCK}, for each second of CPU", "busiest"]


def speed_cells(report: Report, row: Row) -> list[str]:
    compared = [times(row.ratios.get(name), row.at_least and name != DIRECT) for name in report.others]
    return [row.title, *compared, times(row.per_cpu.get(STOCK)), LIMITS[row.limit]]


def size_head(report: Report) -> list[str]:
    return ["how much of what others need", *_proxies(report)]


def size_cells(report: Report, size: Size) -> list[str]:
    return [size.title, *(times(size.ratios.get(name)) for name in _proxies(report))]


def _proxies(report: Report) -> list[str]:
    return [name for name in report.others if name != DIRECT]


def _name(target: str) -> str:
    return {DIRECT: "no proxy"}.get(target, target)


COST_HEAD = ["patterns", "a new target", "a target seen before"]


def cost_cells(cost: Cost) -> list[str]:
    return [f"{cost.patterns:,}", times(cost.new), times(cost.seen)]


def terminal(report: Report) -> str:
    """Aligned columns, with our own numbers: of use on this machine only."""
    head = speed_head(report)
    speeds = [[head[0], "ours", *head[1:]]]
    speeds += [_with_ours(speed_cells(report, row), row.ours, "/s") for row in report.rows]
    head = size_head(report)
    sizes = [[head[0], "ours", *head[1:]]]
    sizes += [_with_ours(size_cells(report, size), size.ours, f" {size.unit}") for size in report.sizes]
    parts = [speeds] if report.rows else []
    parts += [sizes] if report.sizes else []
    parts += [[COST_HEAD, *map(cost_cells, report.costs)]] if report.costs else []
    noise = [f"other programs took {report.foreign:.0%} of the cores' time"] if report.rows else []
    failed = [
        f"{count} requests failed: {row.title}, {name}" for row in report.rows for name, count in row.errors.items()
    ]
    return "\n\n".join([*map(_aligned, parts), "\n".join(failed + noise)]).rstrip()


def _with_ours(cells: list[str], ours: Spread, unit: str) -> list[str]:
    return [cells[0], f"{number(ours.median)}{unit}", *cells[1:]]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in rows)


def markdown(report: Report) -> str:
    """The measured part of the document: ratios, and nothing that only holds for one machine."""
    others = ", ".join(_name(name) for name in report.others)
    cores = "proxies on one core, client and origin on another" if report.pinned else "no process tied to a core"
    intro = (
        f"Against {others}; {report.patterns:,} patterns, audit log on; {report.rounds} rounds, {cores}. "
        "Each cell is the median of the rounds' ratios, with the extremes. "
        f"Other programs took {report.foreign:.0%} of these cores' time."
    )
    parts = [intro, _table(speed_head(report), [speed_cells(report, row) for row in report.rows])]
    parts.append(_table(size_head(report), [size_cells(report, size) for size in report.sizes]))
    if report.costs:
        parts.append("What one decision costs, as a multiple of the same with the shortest list:")
        parts.append(_table(COST_HEAD, [cost_cells(cost) for cost in report.costs]))
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(path: Path, report: Report) -> None:
    """Puts the measured part in its place in the document. Raises `ValueError` when that place is not marked."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path.name} has no place for what was measured: {BEGIN} ... {END}")
    path.write_text(f"{before}{BEGIN}\n\n{markdown(report)}\n\n{END}{after}", encoding="utf-8")
