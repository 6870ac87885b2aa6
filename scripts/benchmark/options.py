"""The command line of scripts/bench, and how a run is fitted into the time it may take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from .scenarios import SCENARIOS, Scenario
from .targets import DIRECT, OURS, SQUID, STOCK, TINYPROXY

OTHERS = (DIRECT, STOCK, TINYPROXY, SQUID)

FULL_SECONDS, QUICK_SECONDS = 165.0, 36.0
FULL_ROUNDS, QUICK_ROUNDS = 7, 3

SETTLING = 0.08
"""Seconds between slices, about: connections are made, and the proxy before finishes what it had."""

SHORTEST, LONGEST = 0.15, 1.5
"""Seconds of a slice."""


@dataclass(frozen=True, slots=True)
class Options:
    scenarios: tuple[Scenario, ...]
    others: tuple[str, ...]
    rounds: int
    seconds: float  # for everything
    quick: bool
    write: bool
    decisions_only: bool

    @property
    def names(self) -> tuple[str, ...]:
        return (OURS, *self.others)

    @property
    def starts(self) -> int:
        """Timed starts of each proxy."""
        return 1 if self.quick else min(5, self.rounds)

    @property
    def tunnels(self) -> int:
        """Idle tunnels for the question of memory."""
        return 200 if self.quick else 1_000


def parse(arguments: Sequence[str]) -> Options:
    """Exits with 2 and a sentence when the words make no sense."""
    parser = _parser()
    given = parser.parse_args(arguments)
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else FULL_ROUNDS)
    if rounds < 1:
        parser.error("--rounds: at least one")
    seconds = given.seconds or (QUICK_SECONDS if given.quick else FULL_SECONDS)
    if given.write and (given.only or given.without or given.quick or given.profile):
        parser.error("--write goes with a whole run: without --quick, --only, --without and --profile")
    scenarios = tuple(one for one in SCENARIOS if not given.only or one.name in given.only)
    others = tuple(name for name in OTHERS if name not in given.without)
    return Options(scenarios, others, rounds, seconds, given.quick, given.write, given.profile == "decision")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="How fast the proxy is beside no proxy, stock mitmdump and, where installed, tinyproxy and squid. "
        "Only ratios mean anything.",
    )
    parser.add_argument("--quick", action="store_true", help="less than 40 s instead of 3 minutes; rougher")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"slices of each ({FULL_ROUNDS}; quick {QUICK_ROUNDS})")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long all of it may take, about")
    names = [one.name for one in SCENARIOS]
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="SCENARIO", help=", ".join(names))
    parser.add_argument("--without", nargs="+", choices=OTHERS, default=[], metavar="NAME", help=", ".join(OTHERS))
    parser.add_argument("--profile", choices=["decision"], help="what a decision costs, and nothing else")
    parser.add_argument("--write", action="store_true", help="put the ratios into docs/performance.md")
    return parser


def slice_seconds(left: float, slices: int) -> float:
    """Seconds for each of the slices that are still to come, warm-up included, when so many seconds are left."""
    return min(LONGEST, max(SHORTEST, left / max(1, slices) - SETTLING))
