"""A running proxy explains what it does now: the policy in force, and where in its file that stands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_network_proxy.addons.runtime import RunOptions, Runtime
from codex_network_proxy.policy.constraints import Constraints
from codex_network_proxy.policy.decision import NetworkDecision, NetworkPolicyRequest
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.explain import Explanation
from codex_network_proxy.policy.inquiry import questions
from codex_network_proxy.policy.overlays import ManagedPolicy

CONFIG = """
default_permissions = "test"
[permissions.test.network]
enabled = true
allow_local_binding = true
allowed_domains = ["a.test"]
"""


async def nosy(request: NetworkPolicyRequest) -> NetworkDecision:
    pytest.fail("an explanation asks nobody")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def runtime(config: Path) -> Iterator[Runtime]:
    environ = {"CODEX_HOME": str(config.parent), "HOME": str(config.parent)}
    managed = ManagedPolicy(constraints=Constraints(allowed_domains=("*.test",)))
    options = RunOptions(pins=("a.test=127.0.0.1", "b.test=127.0.0.1", "c.com=127.0.0.1"))
    running = Runtime(options, environ, nosy, managed=managed)
    yield running
    running.close()


def explained(runtime: Runtime, text: str) -> Explanation:
    return asyncio.run(runtime.explain(*questions(text)))


def line(explanation: Explanation) -> int | None:
    place = explanation.grounds[0].place
    return place.line if place else None


def test_an_entry_of_the_file_is_found_there(runtime: Runtime) -> None:
    found = explained(runtime, "a.test")
    assert (found.allowed, line(found)) == (True, 6)


def test_an_entry_that_code_added_has_no_place(runtime: Runtime) -> None:
    runtime.live.add_allowed_domain("b.test")
    found = explained(runtime, "b.test")
    assert (found.allowed, line(found)) == (True, None)


@pytest.mark.parametrize(
    "text", [pytest.param("# new\n" + CONFIG, id="has changed since"), pytest.param(None, id="is gone")]
)
def test_a_file_that_is_not_the_one_in_force_has_no_places(text: str | None, runtime: Runtime, config: Path) -> None:
    if text is None:
        config.unlink()
    else:
        config.write_text(text)
    found = explained(runtime, "a.test")
    assert (found.allowed, line(found)) == (True, None)


def test_a_file_that_breaks_while_it_is_explained_has_no_places(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: object) -> None:
        raise ConfigError(())

    monkeypatch.setattr("codex_network_proxy.addons.config_file.read_with_origins", fail)
    assert line(explained(runtime, "a.test")) is None


def test_a_change_beyond_the_constraints_says_so(runtime: Runtime) -> None:
    assert explained(runtime, "c.com").remedy.obstacle == (
        'invalid value for network.allowed_domains: ["c.com:443"] (allowed subset of managed allowed_domains)'
    )


def test_nothing_is_audited_or_recorded(runtime: Runtime, config: Path) -> None:
    explained(runtime, "b.test")
    assert runtime.authority.blocked.total == 0
    runtime.close()
    log = config.parent / "log" / "network-proxy.jsonl"
    assert not log.exists() or log.read_text() == ""


def test_a_broken_configuration_explains_nothing(runtime: Runtime, config: Path) -> None:
    config.write_text("= [")
    runtime.reload()
    with pytest.raises(ConfigError, match="is broken, so every request is refused; repair the file"):
        explained(runtime, "a.test")
