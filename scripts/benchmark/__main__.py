"""Runs everything: `python -m codex_network_proxy.scripts.benchmark`, which is what scripts/bench does."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType

from . import decisions
from .certificates import authority_and_chain
from .load import LoadError, serve_load
from .options import Options, parse, slice_seconds
from .origin import serve_origin
from .report import Report, terminal, write
from .rounds import Row, interleave, row
from .session import Bench, Elsewhere
from .targets import ROOT, Surroundings, Target, targets
from .workers import cores, raise_descriptor_limit, worker

PATTERNS = 1_000
DOCUMENT = ROOT / "docs" / "performance.md"
DECISION_ROUNDS = 7

NOISE = 0.1
"""The share of the two cores that others may use before a run is called rough."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(options: Options) -> Report:
    """Everything that was asked for. Raises `LoadError` or `RuntimeError` when a proxy does not do its part."""
    deadline = time.monotonic() + options.seconds
    with ExitStack() as stack:
        # Squid gives up root's rights, and has to get to its own folder.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o711)
        raise_descriptor_limit()
        pinned = cores()
        authority, chain = authority_and_chain(folder)
        proxy_core, load_core = pinned or (None, None)
        origin, origin_pid = stack.enter_context(worker(serve_origin, str(chain), core=load_core))
        client, _ = stack.enter_context(worker(serve_load, core=load_core))
        around = Surroundings(folder, origin.recv(), authority)
        compared = targets(around, PATTERNS, options.names)
        bench = Bench(around.ports, client, origin_pid, proxy_core)
        measured = bench.starts(compared, options.starts)
        bench.open(stack, compared, measured)
        bench.memory(compared, options.tunnels, measured)
        elsewhere = Elsewhere(pinned)
        rows = _speeds(options, bench, compared, deadline)
        foreign = elsewhere.share()
    costs = [] if options.quick else decisions.measure(DECISION_ROUNDS)
    others = [target.name for target in compared[1:]]
    return Report(others, rows, measured.sizes(), costs, options.rounds, pinned is not None, PATTERNS, foreign)


def _speeds(options: Options, bench: Bench, compared: Sequence[Target], deadline: float) -> list[Row]:
    to_come = [options.rounds * sum(target.can(one) for target in compared) for one in options.scenarios]
    rows = []
    for place, scenario in enumerate(options.scenarios):
        say(f"{scenario.title} ...")
        seconds = slice_seconds(deadline - time.monotonic(), sum(to_come[place:]))
        series = interleave(scenario, compared, options.rounds, partial(bench.slice, seconds=seconds))
        rows.append(row(scenario, series))
    return rows


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    options = parse(sys.argv[1:])
    # However it ends, the processes that were started end with it.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    started = time.monotonic()
    try:
        if options.decisions_only:
            report = Report([], [], [], decisions.measure(DECISION_ROUNDS), DECISION_ROUNDS, False, PATTERNS)
        else:
            report = run(options)
        print(terminal(report))
        if report.foreign > NOISE:
            say("the machine was busy with other things: the ratios of this run are rough")
        if options.write:
            write(DOCUMENT, report)
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except EOFError:
        say("scripts/bench: client or origin ended")
        return 1
    except (LoadError, RuntimeError, ValueError, OSError) as error:
        say(f"scripts/bench: {error}")
        return 1
    say(f"{time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
