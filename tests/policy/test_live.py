"""Entries and the mode change while the policy runs, within the constraints (spec B9.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from codex_network_proxy.policy.constraints import Constraints
from codex_network_proxy.policy.errors import PolicyChangeRefused
from codex_network_proxy.policy.live import with_allowed, with_denied, with_mode
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.overlays import ManagedPolicy
from codex_network_proxy.policy.patterns import parse_pattern
from codex_network_proxy.policy.settings import NetworkSettings


def settings(allowed: str = "", denied: str = "") -> NetworkSettings:
    """A table whose lists are written as words."""
    return NetworkSettings(
        allowed=tuple(map(parse_pattern, allowed.split())), denied=tuple(map(parse_pattern, denied.split()))
    )


def lists(settings: NetworkSettings) -> tuple[list[str], list[str]]:
    return [pattern.text for pattern in settings.allowed], [pattern.text for pattern in settings.denied]


@pytest.mark.parametrize(
    ("before", "host", "allowed", "denied"),
    [
        pytest.param(settings("b.test"), " A.Test. ", ["b.test", "a.test"], [], id="a new entry comes last"),
        pytest.param(settings("", "a.test b.test"), "a.test", ["a.test"], ["b.test"], id="it leaves the other list"),
        pytest.param(settings("a.test b.test", "a.test"), "a.test", ["b.test", "a.test"], [], id="it leaves both"),
        pytest.param(settings(), "*.a.test", ["*.a.test"], [], id="a wildcard is an entry as well"),
        pytest.param(settings(), "bücher.test:443", ["xn--bcher-kva.test:443"], [], id="a port and IDNA"),
        pytest.param(settings("", "**.a.test"), "a.test", ["a.test"], ["**.a.test"], id="a wider denial stays"),
    ],
)
def test_an_allowed_host(before: NetworkSettings, host: str, allowed: list[str], denied: list[str]) -> None:
    assert lists(with_allowed(before, host)) == (allowed, denied)


def test_a_denied_host_leaves_the_allowlist() -> None:
    assert lists(with_denied(settings("a.test b.test"), "A.test")) == (["b.test"], ["a.test"])


def test_what_is_so_already_changes_nothing() -> None:
    before = settings("a.test", "b.test")
    assert with_allowed(before, "A.test.") is before
    assert with_denied(before, "B.test") is before
    assert with_mode(before, NetworkMode.FULL) is before


def test_the_mode() -> None:
    assert with_mode(settings(), NetworkMode.LIMITED).mode is NetworkMode.LIMITED


SCOPED = "exact hosts or scoped wildcards like *.example.com or **.example.com"


@pytest.mark.parametrize(
    ("host", "message"),
    [
        pytest.param("", "invalid network host", id="nothing"),
        pytest.param(" \t", "invalid network host", id="blanks"),
        pytest.param("*", f"invalid value for network.{{field}}: * (allowed {SCOPED})", id="a global wildcard"),
        pytest.param(" *.* ", f"invalid value for network.{{field}}: *.* (allowed {SCOPED})", id="another one"),
        pytest.param("http://a.test/x", 'invalid network host "http://a.test/x": is a URL; write', id="a URL"),
        pytest.param("me:pw@a.test", 'invalid network host "***@a.test": has user-info', id="user-info"),
        pytest.param("a..test", 'invalid network host "a..test": host has an empty label', id="no host at all"),
    ],
)
def test_what_is_no_entry_is_refused(host: str, message: str) -> None:
    for change, field in ((with_allowed, "allowed_domains"), (with_denied, "denied_domains")):
        with pytest.raises(PolicyChangeRefused) as caught:
            change(settings(), host)
        assert str(caught.value).startswith(message.format(field=field))


BOUND = Constraints(mode=NetworkMode.LIMITED, allowed_domains=("**.corp.test",), denied_domains=("evil.corp.test",))
MANAGED = ManagedPolicy(constraints=BOUND)
MANAGED_WHOLLY = ManagedPolicy(constraints=replace(BOUND, denylist_expansion_enabled=False))
WITHIN = replace(settings("corp.test", "evil.corp.test"), mode=NetworkMode.LIMITED)


def test_a_change_within_the_constraints() -> None:
    assert lists(with_allowed(WITHIN, "a.corp.test", MANAGED))[0] == ["corp.test", "a.corp.test"]
    assert lists(with_denied(WITHIN, "other.test", MANAGED))[1] == ["evil.corp.test", "other.test"]


MODE = "network.mode constrained by managed config: invalid value for network.mode: "
ALLOWED = "network.allowed_domains constrained by managed config: invalid value for network."
DENIED = "network.denied_domains constrained by managed config: invalid value for network."
Change = Callable[[], NetworkSettings]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda: with_allowed(WITHIN, "other.test", MANAGED),
            f'{ALLOWED}allowed_domains: ["other.test"] (allowed subset of managed allowed_domains)',
            id="an entry that is not covered",
        ),
        pytest.param(
            lambda: with_allowed(WITHIN, "evil.corp.test", MANAGED),
            f'{ALLOWED}denied_domains: missing managed denied_domains entries (allowed ["evil.corp.test"])',
            id="an entry that is denied by constraint",
        ),
        pytest.param(
            lambda: with_denied(WITHIN, "b.test", MANAGED_WHOLLY),
            f'{DENIED}denied_domains: ["evil.corp.test", "b.test"] (allowed must match managed denied_domains)',
            id="a denial where none may be added",
        ),
        pytest.param(
            lambda: with_mode(WITHIN, NetworkMode.FULL, MANAGED),
            f"{MODE}Full (allowed Limited or more restrictive)",
            id="a wider mode",
        ),
    ],
)
def test_a_change_beyond_the_constraints(change: Change, message: str) -> None:
    with pytest.raises(PolicyChangeRefused) as caught:
        change()
    assert str(caught.value) == message
