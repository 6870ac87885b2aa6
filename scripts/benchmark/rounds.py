"""Short slices in turn, A B C A B C: what slows the machine down for a while slows all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from .load import Slice
from .scenarios import Scenario
from .targets import DIRECT, OURS, Target

Run = Callable[[Target, Scenario], Slice]
Series = dict[str, list[Slice]]

IDLE = 0.5
"""Share of a core below which neither side can be called busy."""


def interleave(scenario: Scenario, targets: Sequence[Target], rounds: int, run: Run) -> Series:
    """The slices of each target that can serve the scenario, by its name, in the order of the rounds."""
    able = [target for target in targets if target.can(scenario)]
    series: Series = {target.name: [] for target in able}
    for _ in range(rounds):
        for target in able:
            series[target.name].append(run(target, scenario))
    return series


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some numbers, and their extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Of numbers that were taken side by side, pair by pair; theirs are never 0."""
    return Spread.of([mine / other for mine, other in zip(ours, theirs, strict=True)])


@dataclass(frozen=True, slots=True)
class Row:
    """What one scenario showed. `ratios` say how many times as fast we are as each other target.

    `per_cpu` says the same of the work done for each second of CPU, which holds even when the load was the limit.
    `limit` is who was busiest while ours was measured: "proxy", "load", "both" or "neither".
    `errors` counts requests that failed, by target.
    """

    title: str
    ours: Spread
    ratios: dict[str, Spread]
    per_cpu: dict[str, Spread]
    limit: str
    errors: dict[str, int]

    @property
    def at_least(self) -> bool:
        """We would have been faster with a faster client."""
        return self.limit in ("load", "both")


def row(scenario: Scenario, series: Series) -> Row:
    """Our slices beside everybody else's."""
    mine = series[OURS]
    others = {name: slices for name, slices in series.items() if name != OURS}
    return Row(
        title=scenario.title,
        ours=Spread.of([one.rate for one in mine]),
        ratios={name: ratio([a.rate for a in mine], [b.rate for b in slices]) for name, slices in others.items()},
        per_cpu={name: found for name, slices in others.items() if (found := _per_cpu(mine, slices))},
        limit=limit(mine),
        errors={name: count for name, slices in series.items() if (count := sum(one.errors for one in slices))},
    )


def _per_cpu(mine: Sequence[Slice], theirs: Sequence[Slice]) -> Spread | None:
    pairs = [(a.rate_per_cpu, b.rate_per_cpu) for a, b in zip(mine, theirs, strict=True)]
    known = [a / b for a, b in pairs if a and b]
    return Spread.of(known) if known else None


def limit(slices: Sequence[Slice]) -> str:
    """Who was at work most of the time; each side has one core."""
    proxy, load = median(one.proxy for one in slices), median(one.load for one in slices)
    if max(proxy, load) < IDLE:
        return "neither"
    if abs(proxy - load) < 0.1 * max(proxy, load):
        return "both"
    return "proxy" if proxy > load else "load"


@dataclass(frozen=True, slots=True)
class Size:
    """Something of which less is better; `ratios` are our share of each other's."""

    title: str
    unit: str
    ours: Spread
    ratios: dict[str, Spread]


def size(title: str, unit: str, found: dict[str, list[float]]) -> Size:
    """Our numbers beside everybody else's. Who came out with nothing, or less, cannot be compared with."""
    others = {name: values for name, values in found.items() if name not in (OURS, DIRECT) and min(values) > 0}
    return Size(
        title, unit, Spread.of(found[OURS]), {name: ratio(found[OURS], values) for name, values in others.items()}
    )
