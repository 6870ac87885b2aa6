"""scripts/bench: its client, its origin, and what processes use. Nothing here depends on how long anything takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from codex_network_proxy.scripts.benchmark import load, usage
from codex_network_proxy.scripts.benchmark.certificates import authority_and_chain
from codex_network_proxy.scripts.benchmark.connections import Road
from codex_network_proxy.scripts.benchmark.frames import DATA, HEADERS, Frames, frame
from codex_network_proxy.scripts.benchmark.load import Job, LoadError, Slice
from codex_network_proxy.scripts.benchmark.origin import Ports, serve_origin
from codex_network_proxy.scripts.benchmark.poller import SelectorPoller
from codex_network_proxy.scripts.benchmark.scenarios import INTERCEPTED_NAME, SCENARIOS, TUNNELLED_NAME, Scenario, Way
from codex_network_proxy.scripts.benchmark.workers import worker
from tests.addons.running_door import RunningDoor
from tests.kit.raw import split_address

BY_NAME = {one.name: one for one in SCENARIOS}


# -- what processes use ------------------------------------------------------------------------------------------------


def test_a_process_uses_cpu_and_memory() -> None:
    assert usage.cpu(os.getpid()) > 0
    assert usage.memory(os.getpid()) > 1_000_000


def test_a_process_that_is_gone_uses_nothing() -> None:
    assert (usage.cpu(2**22 + 1), usage.memory(2**22 + 1)) == (0, 0)


def test_cores_are_busy_whoever_they_work_for(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 0 50 900 7 0 50 0 0 0\ncpu1 1 2 3 4 5 6 7 8 0 0\nctxt 5\n")
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert usage.busy((0,), stat) == pytest.approx(200 * tick)
    assert usage.busy((0, 1), stat) == pytest.approx(227 * tick)
    assert usage.busy((0,), tmp_path / "none") is None


def test_ps_is_read_where_there_is_no_proc() -> None:
    listing = "  1   0   1:00.50  100\n 20   1  01:00:00  10\n 30  20 2-00:00:01.25  1\n 40   9   0:09.00  5\nodd\n"
    found = list(usage.below(usage.parse_ps(listing), 20))
    assert found == [(1, 3600.0, 10_240), (20, 172_801.25, 1_024)]


# -- client and origin -------------------------------------------------------------------------------------------------


def test_frames_are_cut_wherever_the_bytes_break() -> None:
    stream = frame(HEADERS, 5, 1, b"abc") + frame(DATA, 1, 3) + frame(DATA, 0, 2**31 - 1, b"x" * 300)
    frames = Frames()
    found = [one for place in range(len(stream)) for one in frames.feed(stream[place : place + 1])]
    assert found == [(HEADERS, 5, 1, b"abc"), (DATA, 1, 3, b""), (DATA, 0, 2**31 - 1, b"x" * 300)]


@pytest.mark.parametrize(
    ("way", "proxied", "introduction", "line"),
    [
        pytest.param(Way.TUNNEL, True, "CONNECT a.test:80 HTTP/1.1", "GET / HTTP/1.1", id="through a tunnel"),
        pytest.param(Way.SOCKS, True, "", "GET / HTTP/1.1", id="through a tunnel of SOCKS5"),
        pytest.param(Way.FORWARD, True, "", "GET http://a.test:80/ HTTP/1.1", id="with the whole address"),
        pytest.param(Way.TUNNEL, False, "", "GET / HTTP/1.1", id="to the origin itself"),
        pytest.param(Way.FORWARD, False, "", "GET / HTTP/1.1", id="to the origin itself, likewise"),
    ],
)
def test_the_client_speaks_as_the_way_wants_it(way: Way, proxied: bool, introduction: str, line: str) -> None:
    road = Road(Scenario("x", "x", 1, way), ("127.0.0.1", 1), proxied, "a.test", 80, "/", None)
    assert road.introduction().decode().partition("\r\n")[0] == introduction
    assert road.request().decode().partition("\r\n")[0] == line


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ports, Path]]:
    folder = tmp_path_factory.mktemp("bench")
    authority, chain = authority_and_chain(folder)
    with worker(serve_origin, str(chain), core=None) as (channel, pid):
        yield channel.recv(), authority
    assert usage.memory(pid) == 0  # it is gone


def job(scenario: Scenario, running: tuple[Ports, Path]) -> Job:
    """Straight to the origin, and no longer than a few answers take."""
    ports, authority = running
    port = ports.tls if scenario.intercepted else ports.plain
    return Job(
        scenario, ("127.0.0.1", port), False, INTERCEPTED_NAME, port, str(authority), None, os.getpid(), 0.0, 0.0
    )


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if not one.denied], ids=lambda one: one.name)
def test_client_and_origin_understand_each_other(scenario: Scenario, running: tuple[Ports, Path]) -> None:
    found = load.run_job(job(scenario, running))
    assert found.rate > 0
    assert found.errors == 0
    assert found.rate_per_cpu is None


def test_without_epoll_the_standard_library_waits(running: tuple[Ports, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "new_poller", SelectorPoller)
    assert load.run_job(job(BY_NAME["handshakes"], running)).errors == 0


def test_idle_connections_are_held(running: tuple[Ports, Path]) -> None:
    held = load.hold(load.Hold(job(SCENARIOS[0], running), 40))
    assert held.kept == 40
    held.close()


def test_a_client_that_is_refused_says_what_it_was_told(running: tuple[Ports, Path]) -> None:
    """The origin answers 200 where a proxy has to refuse."""
    with pytest.raises(LoadError, match=r"answered 'HTTP/1\.1 200 OK'"):
        load.run_job(replace(job(BY_NAME["denied"], running), proxied=True))


def test_the_client_opens_tunnels_of_socks5(running: tuple[Ports, Path]) -> None:
    with RunningDoor() as door:
        door.open_socks()
        asked = replace(job(BY_NAME["socks"], running), proxied=True, host=TUNNELLED_NAME)
        found = load.run_job(replace(asked, door=split_address(door.socks)))
        assert (found.rate > 0, found.errors) == (True, 0)
        with pytest.raises(LoadError, match=r"answered 'HTTP/1\.1 400 Bad Request'"):
            load.run_job(replace(asked, door=split_address(door.address)))
        with pytest.raises(LoadError, match="answered"):
            load.run_job(replace(asked, door=split_address(door.socks), port=1))


def test_a_client_that_trusts_nobody_is_not_counted(running: tuple[Ports, Path], tmp_path: Path) -> None:
    other, _ = authority_and_chain(tmp_path)
    with pytest.raises(LoadError, match="CERTIFICATE_VERIFY_FAILED"):
        load.run_job(replace(job(BY_NAME["handshakes"], running), trust=str(other)))


class Conversation:
    """A channel with jobs in it, which then ends."""

    def __init__(self, jobs: Sequence[object]) -> None:
        self._jobs = list(jobs)
        self.answers: list[object] = []

    def recv(self) -> object:
        if not self._jobs:
            raise EOFError
        return self._jobs.pop(0)

    def send(self, answer: object) -> None:
        self.answers.append(answer)


def test_the_client_serves_job_after_job_and_sends_failures_as_text(running: tuple[Ports, Path]) -> None:
    good = job(BY_NAME["requests"], running)
    bad = replace(good, door=("127.0.0.1", 1))
    channel = Conversation([load.Hold(good, 3), bad, good])
    with pytest.raises(EOFError):
        load.serve_load(channel)
    held, failed, found = channel.answers
    assert held == 3
    assert isinstance(failed, str)
    assert isinstance(found, Slice)
