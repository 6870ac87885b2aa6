"""One run: the proxies that are up, what their starts and tunnels cost, and the slices of load."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Channel

from .load import Hold, Job, LoadError, Slice
from .origin import Ports
from .rounds import Size, size
from .scenarios import DENIED_NAME, INTERCEPTED_NAME, SCENARIOS, TUNNELLED_NAME, Scenario
from .targets import Target
from .usage import busy, cpu, memory
from .workers import program, wait_listening

WARM = 0.25
"""The part of a slice that is not measured."""

CALM_PATIENCE = 0.6
CALM_LOOK = 0.03

Numbers = dict[str, list[float]]


@dataclass(slots=True)
class Measured:
    """What was found beside speed, by the name of the target."""

    start: Numbers = field(default_factory=dict)  # seconds
    idle: Numbers = field(default_factory=dict)  # bytes
    tunnel: Numbers = field(default_factory=dict)  # bytes

    def sizes(self) -> list[Size]:
        idle = {name: [value / 1e6 for value in values] for name, values in self.idle.items()}
        tunnel = {name: [value / 1e3 for value in values] for name, values in self.tunnel.items()}
        return [
            size("time from start to listening", "s", self.start),
            size("memory at rest", "MB", idle),
            size("memory for each idle tunnel", "kB", tunnel),
        ]


class Elsewhere:
    """Whether the machine did something else meanwhile."""

    def __init__(self, cores: Sequence[int] | None) -> None:
        self._cores = cores
        self._before = self._now()

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), busy(self._cores or ()) or 0.0, cpu(os.getpid())

    def share(self) -> float:
        """The part of the cores' time that went to others since this was made; 0 where it cannot be told."""
        wall, worked, ours = (now - before for now, before in zip(self._now(), self._before, strict=True))
        return max(0.0, worked - ours) / (wall * len(self._cores)) if self._cores else 0.0


class Bench:
    """Talks to the load client. `core` is the one that all proxies share; only one of them works at a time."""

    def __init__(self, ports: Ports, client: Channel, origin_pid: int, core: int | None) -> None:
        self._ports = ports
        self._client = client
        self._origin_pid = origin_pid
        self._core = core
        self._pids: dict[str, int] = {}

    def starts(self, targets: Sequence[Target], count: int) -> Measured:
        """Starts every proxy `count` times, in turn, after once for the files that are made only once."""
        measured = Measured()
        for turn in range(count + 1):
            for target in targets:
                if target.command:
                    with ExitStack() as stack:
                        seconds = self._start(stack, target)
                    if turn:
                        measured.start.setdefault(target.name, []).append(seconds)
        return measured

    def _start(self, stack: ExitStack, target: Target) -> float:
        started = time.perf_counter()
        child = stack.enter_context(program(target.command, target.environment, target.folder, self._core))
        for port in filter(None, (target.port, target.socks)):
            wait_listening(child, port, target.folder / "output")
        self._pids[target.name] = child.pid
        return time.perf_counter() - started

    def open(self, stack: ExitStack, targets: Sequence[Target], measured: Measured) -> None:
        """Starts every proxy for good; how much memory they hold once they are calm."""
        for target in targets:
            if target.command:
                self._start(stack, target)
                self._calm(target)
                measured.idle[target.name] = [self._memory(target)]

    def memory(self, targets: Sequence[Target], tunnels: int, measured: Measured) -> None:
        """What so many idle tunnels add. Ask it of fresh processes: later ones have memory to spare."""
        for target in targets:
            if target.command:
                before = self._memory(target)
                self._ask(target, Hold(self._job(target, SCENARIOS[0], 0), tunnels))
                self._calm(target)
                measured.tunnel[target.name] = [(self._memory(target) - before) / tunnels]

    def slice(self, target: Target, scenario: Scenario, seconds: float) -> Slice:
        """Raises `LoadError` when it does not work."""
        answer = self._ask(target, self._job(target, scenario, seconds))
        assert isinstance(answer, Slice)
        self._calm(target)
        return answer

    def _ask(self, target: Target, job: Job | Hold) -> object:
        self._client.send(job)
        answer = self._client.recv()
        if isinstance(answer, str):
            scenario = (job.job if isinstance(job, Hold) else job).scenario
            raise LoadError(f"{target.name}, {scenario.title}: {answer}")
        return answer

    def _job(self, target: Target, scenario: Scenario, seconds: float) -> Job:
        host = INTERCEPTED_NAME if scenario.intercepted else TUNNELLED_NAME
        port = self._ports.tls if scenario.intercepted else self._ports.plain
        return Job(
            scenario=scenario,
            door=("127.0.0.1", target.door(scenario) if target.command else port),
            proxied=bool(target.command),
            host=DENIED_NAME if scenario.denied else host,
            port=port,
            trust=str(target.trust),
            proxy_pid=self._pids.get(target.name),
            origin_pid=self._origin_pid,
            warm=seconds * WARM,
            seconds=seconds * (1 - WARM),
        )

    def _memory(self, target: Target) -> int:
        return memory(self._pids[target.name])

    def _calm(self, target: Target) -> None:
        """Waits until the proxy has finished what was cut off: it would take time from the next one."""
        if target.name not in self._pids:
            return
        deadline = time.monotonic() + CALM_PATIENCE
        before = cpu(self._pids[target.name])
        while time.monotonic() < deadline:
            time.sleep(CALM_LOOK)
            now = cpu(self._pids[target.name])
            if now - before < 0.005:
                return
            before = now
