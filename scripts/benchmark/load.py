"""The load client's process: takes jobs from a pipe, and says for each what was reached and who worked how much."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from .connections import Connection, Road
from .origin import BULK_PATH
from .poller import Poller, new_poller
from .scenarios import Scenario, Speech
from .usage import cpu

MISSES = 20
"""Failures in a row, without an answer between them, after which a job is given up."""

FEWEST = 50
"""Answers that make a rate, and for how many seconds more they are waited for."""
EXTRA_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Job:
    """One slice of load. `trust` is the CA file that must have signed what the client is shown in TLS."""

    scenario: Scenario
    door: tuple[str, int]
    proxied: bool
    host: str
    port: int
    trust: str
    proxy_pid: int | None
    origin_pid: int
    warm: float  # seconds before the measured ones
    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Opens so many tunnels, sends a request through each, and keeps them until the next job."""

    job: Job
    count: int


@dataclass(frozen=True, slots=True)
class Slice:
    """What came of a job. `load` is the share of a core that client and origin used, `proxy` that of the proxy."""

    rate: float  # operations a second, megabytes in a bulk scenario
    proxy: float
    load: float
    errors: int = 0

    @property
    def rate_per_cpu(self) -> float | None:
        """Operations for each second of the proxy's CPU; None without a proxy, or when it used too little to tell."""
        return self.rate / self.proxy if self.proxy > 0.01 else None


class Channel(Protocol):
    """One end of a pipe for objects."""

    def recv(self) -> Any: ...
    def send(self, obj: Any, /) -> None: ...


class LoadError(Exception):
    """No answers come, and why."""


@lru_cache(maxsize=16)
def _context(trust: str, protocol: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=trust)
    context.set_alpn_protocols([protocol])
    return context


def road_of(job: Job) -> Road:
    scenario = job.scenario
    context = None
    if scenario.speech is not Speech.PLAIN:
        context = _context(job.trust, "h2" if scenario.speech is Speech.TLS_H2 else "http/1.1")
    path = BULK_PATH if scenario.bulk else "/"
    return Road(scenario, job.door, job.proxied, job.host, job.port, path, context)


class Generator:
    """Keeps the scenario's connections busy. `keep` connections stay open and idle after one answer each."""

    def __init__(self, job: Job, keep: int = 0) -> None:
        self._poller: Poller = new_poller()
        self._road = road_of(job)
        self._fresh = job.scenario.fresh
        self._bulk = job.scenario.bulk
        self._keep = keep
        self._open: set[Connection] = set()
        self._misses = 0
        self.done = 0
        self.errors = 0
        self.kept = 0

    def begin(self, count: int) -> None:
        for _ in range(count):
            connection = Connection(self, self._poller, self._road)
            self._open.add(connection)
            connection.start()

    def answered(self, connection: Connection, amount: int) -> None:
        self.done += amount
        self._misses = 0
        if self._keep:
            self.kept += 1
            if self.kept + 32 <= self._keep:
                self.begin(1)
        elif self._fresh or connection.closing:
            self._leave(connection)
            self.begin(1)
        elif not self._bulk:
            connection.ask()

    def left(self, connection: Connection) -> None:
        self._leave(connection)
        self.begin(1)

    def failed(self, connection: Connection, what: str) -> None:
        self.errors += 1
        self._misses += 1
        self._leave(connection)
        if self._misses > MISSES:
            raise LoadError(what)
        self.begin(1)

    def _leave(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.close()

    def run(self, seconds: float) -> float:
        """Serves for about so long; how long it really was."""
        started = now = time.perf_counter()
        while now < started + seconds:
            self._poller.once(started + seconds - now)
            now = time.perf_counter()
        return now - started

    def close(self) -> None:
        for connection in list(self._open):
            self._leave(connection)
        self._poller.close()


def run_job(job: Job) -> Slice:
    """Raises `LoadError` when nothing is answered."""
    generator = Generator(job)
    try:
        generator.begin(job.scenario.connections)
        generator.run(job.warm)
        done, before = generator.done, _working(job)
        elapsed = generator.run(job.seconds)
        # Where little is answered in a second, a slice is made longer: a handful of answers is no rate.
        while generator.done - done < FEWEST and elapsed < job.seconds + EXTRA_SECONDS:
            elapsed += generator.run(0.05)
        done, after = generator.done - done, _working(job)
    finally:
        generator.close()
    if not done:
        raise LoadError(f"nothing was answered within {elapsed:.1f} s")
    proxy, load = ((late - early) / elapsed for early, late in zip(before, after, strict=True))
    return Slice(done / elapsed / (1e6 if job.scenario.bulk else 1), proxy, load, generator.errors)


def _working(job: Job) -> tuple[float, float]:
    """Seconds of CPU that the proxy, and the two on the other side, have used so far."""
    proxy = cpu(job.proxy_pid) if job.proxy_pid else 0.0
    return proxy, time.process_time() + cpu(job.origin_pid)


def hold(request: Hold, patience: float = 60.0) -> Generator:
    """The open tunnels; raises `LoadError` when not all of them come about."""
    generator = Generator(request.job, request.count)
    generator.begin(min(32, request.count))
    deadline = time.monotonic() + patience
    while generator.kept < request.count:
        generator.run(0.05)
        if time.monotonic() > deadline:
            raise LoadError(f"only {generator.kept} of {request.count} tunnels within {patience:.0f} s")
    return generator


def serve_load(channel: Channel) -> None:
    """Serves jobs until the channel ends, with `EOFError`. A failure is sent back as text."""
    held: Generator | None = None
    while True:
        job = channel.recv()
        if held:
            held.close()
            held = None
        try:
            if isinstance(job, Hold):
                held = hold(job)
                channel.send(held.kept)
            else:
                channel.send(run_job(job))
        except (LoadError, OSError) as error:
            channel.send(str(error) or type(error).__name__)
