"""scripts/bench without its timings: what it is asked, what it compares, and what it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.decision import Decision
from codex_network_proxy.policy.engine import NetworkPolicy, judge_host
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.scripts.benchmark import decisions, options, report, rounds
from codex_network_proxy.scripts.benchmark.load import Slice
from codex_network_proxy.scripts.benchmark.origin import Ports
from codex_network_proxy.scripts.benchmark.rounds import Row, Size, Spread
from codex_network_proxy.scripts.benchmark.scenarios import (
    DENIED_NAME,
    INTERCEPTED_NAME,
    SCENARIOS,
    TUNNELLED_NAME,
    Scenario,
)
from codex_network_proxy.scripts.benchmark.targets import (
    DIRECT,
    OURS,
    SQUID,
    STOCK,
    TINYPROXY,
    Surroundings,
    Target,
    allowed_patterns,
    our_config,
    targets,
)
from codex_network_proxy.scripts.benchmark.workers import clean_environment

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {one.name: one for one in SCENARIOS}
NOWHERE = Path("nowhere")


def target(name: str, *, reads_tls: bool = True, socks: int = 0) -> Target:
    command = () if name == DIRECT else ("program",)
    return Target(name, NOWHERE, NOWHERE, 1, command, reads_tls=reads_tls, socks=socks)


# -- the command line --------------------------------------------------------------------------------------------------


def test_without_words_everything_is_compared() -> None:
    asked = options.parse([])
    assert asked.names == (OURS, DIRECT, STOCK, TINYPROXY, SQUID)
    assert asked.scenarios == SCENARIOS
    assert (asked.rounds, asked.tunnels, asked.write) == (options.FULL_ROUNDS, 1_000, False)


def test_quick_is_less_of_everything() -> None:
    full, quick = options.parse([]), options.parse(["--quick"])
    assert quick.rounds < full.rounds
    assert quick.seconds < 40 < full.seconds < 180
    assert quick.starts < full.starts
    assert quick.tunnels < full.tunnels


def test_scenarios_and_others_can_be_chosen() -> None:
    asked = options.parse(["--only", "denied", "bulk", "--without", "squid", "mitmdump", "--rounds", "2"])
    assert [one.name for one in asked.scenarios] == ["bulk", "denied"]
    assert asked.names == (OURS, DIRECT, TINYPROXY)
    assert asked.rounds == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--write", "--quick"], "--write goes with a whole run", id="a quick run is not written down"),
        pytest.param(["--write", "--only", "bulk"], "--write goes with a whole run", id="nor is part of one"),
        pytest.param(
            ["--write", "--without", "direct"], "--write goes with a whole run", id="nor one with less beside"
        ),
        pytest.param(["--write", "--profile", "decision"], "--write goes with a whole run", id="nor a profile"),
        pytest.param(["--rounds", "-1"], "at least one", id="no rounds"),
        pytest.param(["--only", "everything"], "invalid choice", id="an unknown scenario"),
    ],
)
def test_words_that_make_no_sense_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options.parse(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("left", "slices", "seconds"),
    [
        pytest.param(100.0, 100, 1.0 - options.SETTLING, id="the time left is shared out"),
        pytest.param(1000.0, 10, options.LONGEST, id="a slice is never longer than it needs to be"),
        pytest.param(1.0, 100, options.SHORTEST, id="nor shorter than can be measured"),
        pytest.param(-5.0, 100, options.SHORTEST, id="even when time is over"),
        pytest.param(1.0, 0, 1.0 - options.SETTLING, id="nothing to share it with"),
    ],
)
def test_slices_fit_into_the_time(left: float, slices: int, seconds: float) -> None:
    assert options.slice_seconds(left, slices) == pytest.approx(seconds)


# -- rounds and ratios -------------------------------------------------------------------------------------------------


def test_targets_take_turns() -> None:
    order: list[str] = []

    def run(target: Target, scenario: Scenario) -> Slice:
        order.append(target.name)
        return Slice(float(len(order)), 1.0, 0.5)

    series = rounds.interleave(BY_NAME["tunnels"], [target(OURS), target(DIRECT), target(STOCK)], 2, run)
    assert order == [OURS, DIRECT, STOCK] * 2
    assert [one.rate for one in series[STOCK]] == [3.0, 6.0]


@pytest.mark.parametrize(
    ("scenario", "able"),
    [
        pytest.param("tunnels", [OURS, DIRECT, STOCK, TINYPROXY], id="everybody makes tunnels"),
        pytest.param("socks", [OURS, DIRECT], id="not all speak SOCKS5"),
        pytest.param("denied", [OURS, STOCK, TINYPROXY], id="without a proxy nothing is denied"),
        pytest.param("handshakes", [OURS, DIRECT, STOCK], id="not all read what is inside TLS"),
    ],
)
def test_only_those_take_part_that_can(scenario: str, able: list[str]) -> None:
    everybody = [target(OURS, socks=8081), target(DIRECT), target(STOCK), target(TINYPROXY, reads_tls=False)]
    series = rounds.interleave(BY_NAME[scenario], everybody, 1, lambda one, of: Slice(1.0, 1.0, 1.0))
    assert list(series) == able


@pytest.mark.parametrize(("scenario", "port"), [("socks", 8081), ("tunnels", 1), ("plain", 1)])
def test_a_client_knocks_at_the_door_of_its_scenario(scenario: str, port: int) -> None:
    assert target(OURS, socks=8081).door(BY_NAME[scenario]) == port


def test_a_ratio_is_the_median_of_neighbours() -> None:
    # The machine was half as fast in the second round, for both.
    assert rounds.ratio([30.0, 15.0, 44.0], [10.0, 5.0, 11.0]) == Spread(3.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("proxy", "load", "limit"),
    [
        pytest.param(0.99, 0.4, "proxy", id="the proxy"),
        pytest.param(0.4, 0.99, "load", id="client and origin"),
        pytest.param(0.97, 0.95, "both", id="both"),
        pytest.param(0.3, 0.4, "neither", id="neither"),
    ],
)
def test_who_was_the_limit(proxy: float, load: float, limit: str) -> None:
    assert rounds.limit([Slice(1, 0, 0), Slice(1, proxy, load), Slice(1, proxy, load)]) == limit


def test_a_row_compares_speed_and_work_for_each_second_of_cpu() -> None:
    series = {
        OURS: [Slice(100.0, 0.5, 0.9), Slice(120.0, 0.5, 0.9)],
        DIRECT: [Slice(200.0, 0.0, 0.9), Slice(200.0, 0.0, 0.9)],
        STOCK: [Slice(50.0, 1.0, 0.2, errors=2), Slice(40.0, 1.0, 0.2, errors=1)],
    }
    row = rounds.row(BY_NAME["requests"], series)
    assert row.ratios == {DIRECT: Spread.of([0.5, 0.6]), STOCK: Spread.of([2.0, 3.0])}
    assert row.per_cpu == {STOCK: Spread.of([4.0, 6.0])}
    assert (row.limit, row.at_least, row.errors) == ("load", True, {STOCK: 3})


def test_sizes_are_shares_of_what_others_need() -> None:
    found = {OURS: [2.0, 3.0, 2.0], STOCK: [4.0, 4.0, 4.0], SQUID: [0.0, 1.0, 1.0]}
    size = rounds.size("memory", "MB", found)
    assert size.ratios == {STOCK: Spread(0.5, 0.5, 0.75)}  # of nothing there is no share


# -- the table and the document ----------------------------------------------------------------------------------------

FAST = Row(
    "tunnels", Spread(8000, 7000, 9000), {DIRECT: Spread(0.5, 0.4, 0.6), STOCK: Spread(12.3, 10, 15)}, {}, "both", {}
)
SLOW = Row(
    "requests",
    Spread(1500, 1400, 1600),
    {STOCK: Spread(2.55, 2.4, 2.6)},
    {STOCK: Spread(1.5, 1, 2)},
    "proxy",
    {STOCK: 3},
)
SIZES = [Size("memory", "MB", Spread(80, 80, 80), {STOCK: Spread(1.1, 1.1, 1.1)})]
COSTS = [decisions.Cost(100_000, Spread(1.1, 1.0, 1.2), Spread(1.0, 0.9, 1.1))]
REPORT = report.Report([DIRECT, STOCK], [FAST, SLOW], SIZES, COSTS, rounds=5, pinned=True, patterns=1_000, foreign=0.04)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12345.6, "12,346"), (10.0, "10"), (9.96, "10"), (9.94, "9.9"), (2.0, "2.0"), (1.94, "1.94"), (0.031, "0.03")],
)
def test_numbers_show_what_means_something(value: float, shown: str) -> None:
    assert report.number(value) == shown


def test_the_measured_part_holds_ratios_and_nothing_of_the_machine() -> None:
    text = report.markdown(REPORT)
    assert "| tunnels | 0.50 (0.40–0.60) | ≥ 12 (10–15) |  | both |" in text  # noqa: RUF001  # ranges are written with a dash
    assert "| requests |  | 2.5 (2.4–2.6) | 1.50 (1.00–2.0) | the proxy |" in text  # noqa: RUF001  # ranges are written with a dash
    assert "| memory | 1.10 |" in text
    assert "| 100,000 | 1.10 (1.00–1.20) | 1.00 (0.90–1.10) |" in text  # noqa: RUF001  # ranges are written with a dash
    assert "5 rounds" in text
    assert "Other programs took 4% of these cores' time." in text
    assert not {"8,000", "1,500", "80"} & set(text.replace("|", " ").split())


def test_the_terminal_shows_our_own_numbers_as_well_and_what_failed() -> None:
    text = report.terminal(REPORT)
    assert "8,000/s" in text
    assert "80 MB" in text
    assert "3 requests failed: requests, mitmdump" in text


def test_a_profile_of_decisions_alone_is_one_table() -> None:
    alone = replace(REPORT, others=[], rows=[], sizes=[])
    assert report.terminal(alone).splitlines()[0].startswith("patterns")


def test_only_the_measured_part_of_the_document_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "performance.md"
    file.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write(file, REPORT)
    first = file.read_text()
    assert first.startswith(f"before\n{report.BEGIN}\n")
    assert first.endswith(f"{report.END}\nafter\n")
    assert "old" not in first
    report.write(file, REPORT)
    assert file.read_text() == first


@pytest.mark.parametrize("text", ["", report.BEGIN, f"{report.END} {report.BEGIN}"])
def test_a_document_without_a_place_for_it_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "performance.md"
    file.write_text(text)
    with pytest.raises(ValueError, match="no place"):
        report.write(file, REPORT)
    assert file.read_text() == text


def test_our_document_has_a_place_for_it_and_names_no_machine() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    assert text.index(report.BEGIN) < text.index(report.END)
    assert not any(path in text for path in ("/home/", "/root/", "/tmp/", "/Users/"))


# -- who is compared ---------------------------------------------------------------------------------------------------


def test_our_configuration_says_what_the_scenarios_need() -> None:
    patterns = allowed_patterns(1_000)
    loaded = load_config(our_config(3128, 8081, patterns), file="config.toml")
    policy = NetworkPolicy.compile(loaded.settings)
    rulings = {
        name: judge_host(policy, parse_endpoint(f"{name}:443"))
        for name in (TUNNELLED_NAME, INTERCEPTED_NAME, DENIED_NAME)
    }
    assert len(policy.allowed) == 1_000
    assert loaded.warnings == ()
    assert [ruling.decision if ruling else None for ruling in rulings.values()] == [
        Decision.ALLOW,
        Decision.ALLOW,
        None,  # not listed
    ]
    assert policy.mitm
    assert [policy.hooks.covers(parse_endpoint(f"{name}:443").host) for name in rulings] == [False, True, False]


def test_other_proxies_take_part_where_they_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squid = tmp_path / "bin" / "squid"
    squid.parent.mkdir()
    squid.write_text("#!/bin/sh\n")
    squid.chmod(0o755)
    monkeypatch.setenv("PATH", str(squid.parent))
    around = Surroundings(tmp_path / "run", Ports(1, 2), tmp_path / "authority.pem")
    found = targets(around, 10, (SQUID, OURS, DIRECT))
    assert [one.name for one in found] == [OURS, DIRECT, SQUID]
    assert [bool(one.command) for one in found] == [True, False, True]
    assert found[2].command[0] == str(squid)


def test_programs_see_nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert clean_environment(tmp_path, CODEX_HOME="x").keys() == {"PATH", "HOME", "LANG", "CODEX_HOME"}
