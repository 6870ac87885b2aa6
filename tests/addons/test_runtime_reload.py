"""What a changed file does to a running proxy, and what closes it until it is repaired."""

from __future__ import annotations

import errno
import logging

import pytest

from codex_network_proxy.addons.runtime import Runtime
from codex_network_proxy.policy.constraints import Constraints
from codex_network_proxy.policy.decision import Allowed, Blocked, Unavailable
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.overlays import ManagedPolicy, NetworkRequirements, NetworkRule

from .runtime_kit import HEAD, HOOK, Place, ask


def test_an_unchanged_file_is_not_read_again(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open()
    assert runtime.reload_if_changed() is False


def test_a_changed_file_is_in_force_at_once_and_its_entries_are_logged(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write('"a.test"')
    runtime = place.open()
    place.write('"b.test"', 'denied_domains = ["evil.test"]')
    with caplog.at_level(logging.INFO):
        assert runtime.reload_if_changed() is True
    assert isinstance(ask(runtime, "a.test"), Blocked)
    assert isinstance(ask(runtime, "b.test"), Allowed)
    logged = [record.getMessage() for record in caplog.records]
    assert "config entry added to allowlist: b.test" in logged
    assert "config entry removed from allowlist: a.test" in logged
    assert "config entry added to denylist: evil.test" in logged


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("this is not TOML", id="is no TOML"),
        pytest.param(HEAD + 'allowed_domains = ["*"]', id="has a global wildcard"),
        pytest.param(HEAD + 'allowed_domains = ["a.test"]\ndenied_domain = []', id="has an unknown key"),
        pytest.param(HEAD + 'allowed_domains = "a.test"', id="has a wrong type"),
        pytest.param(HEAD + HOOK, id="needs a secret that is not there"),
        pytest.param(None, id="is gone"),
    ],
)
def test_everything_is_refused_while_the_file(
    broken: str | None, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write('"a.test"')
    runtime = place.open()
    if broken is None:
        place.config.unlink()
    else:
        place.config.write_text(broken)
    assert runtime.reload_if_changed() is True
    assert isinstance(ask(runtime, "a.test"), Unavailable)
    assert "every request is refused until it is repaired" in caplog.text
    place.write('"a.test"')
    assert runtime.reload_if_changed() is True
    assert isinstance(ask(runtime, "a.test"), Allowed)


def test_what_code_changed_lasts_until_the_file_is_read_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write('"a.test"')
    runtime = place.open()
    runtime.live.add_allowed_domain("b.test")
    assert isinstance(ask(runtime, "b.test"), Allowed)
    place.write('"a.test"', "# touched")
    with caplog.at_level(logging.INFO):
        runtime.reload_if_changed()
    assert isinstance(ask(runtime, "b.test"), Blocked)
    assert "config entry removed from allowlist: b.test" in caplog.messages


MANAGED = ManagedPolicy(
    requirements=NetworkRequirements(denied_domains=("evil.test",)),
    rules=(NetworkRule("b.test", "allow"),),
    constraints=Constraints(allowed_domains=("*.test",)),
)


def test_what_is_managed_is_laid_over_each_version_of_the_file(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open(managed=MANAGED)
    for allowed in (("a.test", "b.test"), ("b.test",)):
        assert runtime.live.current_patterns == (allowed, ("evil.test",))
        place.write("")
        runtime.reload_if_changed()


def test_a_file_beyond_the_constraints_stops_the_start(place: Place) -> None:
    place.write('"a.com"')
    with pytest.raises(ConfigError, match=r'network proxy constraints: .*\["a.com"\] \(allowed subset of managed'):
        place.open(managed=MANAGED)


def test_a_file_that_goes_beyond_the_constraints_is_a_broken_one(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write('"a.test"')
    runtime = place.open(managed=MANAGED)
    place.write('"a.test", "a.com"')
    runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Unavailable)
    assert 'network proxy constraints: invalid value for network.allowed_domains: ["a.com"]' in caplog.text
    place.write('"a.test"')
    runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Allowed)


FILE_HOOK = HOOK.replace('secret_env_var = "TOKEN"', 'secret_file = "{}"')


def test_a_file_that_waits_for_its_secret_is_in_force_as_soon_as_that_can_be_read(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    secret = place.home / "token.txt"
    secret.write_text("canary")
    secret.chmod(0o644)
    place.write('"a.test"')
    runtime = place.open()
    place.write('"a.test"', FILE_HOOK.replace("{}", str(secret)))
    assert runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Unavailable)
    assert f"run: chmod 600 {secret}" in caplog.text
    caplog.clear()
    assert not runtime.reload_if_changed()
    assert caplog.messages == [], "what is known to be broken is logged once"
    secret.chmod(0o600)
    assert runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Allowed)
    assert not runtime.reload_if_changed()


def test_a_file_that_waits_for_the_key_of_the_authority_is_in_force_as_soon_as_that_is_closed(place: Place) -> None:
    environ = {"TOKEN": "canary"}
    place.write('"a.test"', HOOK)
    place.open(environ=environ)
    place.write('"a.test"')
    runtime = place.open(environ=environ)
    key = place.home / "proxy" / "ca.key"
    key.chmod(0o644)
    place.write('"a.test"', HOOK)
    runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Unavailable)
    key.chmod(0o600)
    assert runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Allowed)


def test_a_file_that_is_repaired_otherwise_waits_for_nothing(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open()
    place.write('"a.test"', FILE_HOOK.replace("{}", str(place.home / "nothing.txt")))
    runtime.reload_if_changed()
    place.config.write_text("= [")
    runtime.reload_if_changed()
    (place.home / "nothing.txt").write_text("canary")
    (place.home / "nothing.txt").chmod(0o600)
    assert not runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Unavailable)


def test_an_error_that_nobody_expected_closes_everything_as_well(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "secret text")

    place.write('"a.test"')
    runtime = place.open()
    monkeypatch.setattr(Runtime, "_prepare_tls", fail)
    place.write('"a.test", "b.test"')
    runtime.reload()
    assert isinstance(ask(runtime, "a.test"), Unavailable)
    assert "reload failed (OSError)" in caplog.messages
    assert "secret text" not in caplog.text
    assert not runtime.reload_if_changed()
    monkeypatch.undo()
    assert runtime.reload_if_changed()
    assert isinstance(ask(runtime, "b.test"), Allowed)


def test_a_changed_listener_address_waits_for_a_restart(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write('"a.test"')
    runtime = place.open()
    place.config.write_text(place.config.read_text().replace("127.0.0.1:0", "127.0.0.1:9"))
    runtime.reload_if_changed()
    assert "they take effect after a restart" in caplog.text
