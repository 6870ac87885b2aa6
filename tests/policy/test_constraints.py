"""Managed constraints bound a configuration; each setting beyond one is named (spec B1.5.1, B2.6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from codex_network_proxy.policy.constraints import Constraints, validate
from codex_network_proxy.policy.hosts import parse_host
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.patterns import parse_pattern
from codex_network_proxy.policy.settings import HookSettings, NetworkSettings

CLOSED = NetworkSettings(allow_upstream_proxy=False)
ONLY = "false (disabled by managed config)"


def settings(allowed: str = "", denied: str = "", **changes: object) -> NetworkSettings:
    """A table whose lists are written as words."""
    return replace(
        CLOSED,
        allowed=tuple(map(parse_pattern, allowed.split())),
        denied=tuple(map(parse_pattern, denied.split())),
        **changes,  # type: ignore[arg-type]  # rows name real fields
    )


def found(candidate: NetworkSettings, constraints: Constraints) -> list[str]:
    return [str(violation) for violation in validate(candidate, constraints)]


@pytest.mark.parametrize(
    ("field", "setting"),
    [
        ("enabled", "enabled"),
        ("allow_upstream_proxy", "allow_upstream_proxy"),
        ("dangerously_allow_non_loopback_proxy", "allow_non_loopback"),
        ("dangerously_allow_all_unix_sockets", "allow_all_unix_sockets"),
        ("allow_local_binding", "allow_local_binding"),
    ],
)
def test_a_switch_that_is_off_by_constraint_stays_off(field: str, setting: str) -> None:
    on, off = (replace(CLOSED, **{setting: value}) for value in (True, False))  # type: ignore[arg-type]  # a real field
    closed, open_ = Constraints(**{field: False}), Constraints(**{field: True})  # type: ignore[arg-type]  # a real field
    assert found(on, closed) == [f"invalid value for network.{field}: true (allowed {ONLY})"]
    assert found(off, closed) == found(on, open_) == found(off, open_) == found(on, Constraints()) == []


@pytest.mark.parametrize(
    ("mode", "bound", "message"),
    [
        pytest.param(
            NetworkMode.FULL,
            NetworkMode.LIMITED,
            ["invalid value for network.mode: Full (allowed Limited or more restrictive)"],
            id="full is wider than limited",
        ),
        pytest.param(NetworkMode.LIMITED, NetworkMode.LIMITED, [], id="limited within limited"),
        pytest.param(NetworkMode.LIMITED, NetworkMode.FULL, [], id="limited within full"),
        pytest.param(NetworkMode.FULL, NetworkMode.FULL, [], id="full within full"),
        pytest.param(NetworkMode.FULL, None, [], id="no bound"),
    ],
)
def test_the_mode(mode: NetworkMode, bound: NetworkMode | None, message: list[str]) -> None:
    assert found(settings(mode=mode), Constraints(mode=bound)) == message


@pytest.mark.parametrize(
    ("constraints", "allowed"),
    [
        pytest.param(Constraints(), True, id="without any constraint"),
        pytest.param(Constraints(allow_unix_sockets=()), False, id="not beside a managed list"),
        pytest.param(
            Constraints(allow_unix_sockets=(), dangerously_allow_all_unix_sockets=True),
            True,
            id="beside a managed list when it says so",
        ),
        pytest.param(Constraints(dangerously_allow_all_unix_sockets=False), False, id="not when it says no"),
    ],
)
def test_all_unix_sockets_may_be_allowed(constraints: Constraints, allowed: bool) -> None:
    message = f"invalid value for network.dangerously_allow_all_unix_sockets: true (allowed {ONLY})"
    assert found(settings(allow_all_unix_sockets=True), constraints) == ([] if allowed else [message])


COVERAGE = [
    # managed, candidate, whether it is covered
    ("d.test", "d.test", True),
    ("d.test", "c.test", False),
    ("d.test", "*.d.test", False),
    ("d.test", "**.d.test", False),
    ("*.d.test", "a.d.test", True),
    ("*.d.test", "a.b.d.test", True),
    ("*.d.test", "d.test", False),
    ("*.d.test", "evild.test", False),
    ("*.d.test", "*.d.test", True),
    ("*.d.test", "*.a.d.test", True),
    ("*.d.test", "**.a.d.test", True),
    ("*.d.test", "**.d.test", False),
    ("*.d.test", "*.test", False),
    ("**.d.test", "d.test", True),
    ("**.d.test", "a.d.test", True),
    ("**.d.test", "evild.test", False),
    ("**.d.test", "*.d.test", True),
    ("**.d.test", "**.d.test", True),
    ("**.d.test", "**.a.d.test", True),
    ("**.d.test", "**.test", False),
    ("D.Test.", "d.TEST", True),
    ("bücher.test", "xn--bcher-kva.test", True),
    ("*.xn--bcher-kva.test", "a.BÜCHER.test", True),
    ("d.test:443", "d.test:443", True),
    ("d.test", "d.test:443", True),
    ("d.test:443", "d.test", False),
    ("d.test:443", "d.test:80", False),
    ("10.0.0.0/8", "10.1.2.3", True),
    ("10.0.0.0/8", "10.1.0.0/16", True),
    ("10.0.0.0/8", "0.0.0.0/0", False),
    ("fe80::/10", "fe80::1%lo0", False),
    ("a*.d.test", "a1.d.test", True),
    ("a*.d.test", "*.d.test", False),
    ("*.d.test", "a*.d.test", True),
]


@pytest.mark.parametrize(("managed", "candidate", "covered"), COVERAGE, ids=[f"{m} {c}" for m, c, _ in COVERAGE])
def test_a_managed_pattern_covers(managed: str, candidate: str, covered: bool) -> None:
    canonical = parse_pattern(candidate).text
    message = f'invalid value for network.allowed_domains: ["{canonical}"] (allowed subset of managed allowed_domains)'
    constraints = Constraints(allowed_domains=("elsewhere.test", managed))
    assert found(settings(f"elsewhere.test {candidate}"), constraints) == ([] if covered else [message])


A_B = Constraints(allowed_domains=("a.test", "B.test"))
A_B_AND_MORE = replace(A_B, allowlist_expansion_enabled=True)
A_B_ONLY = replace(A_B, allowlist_expansion_enabled=False)
DENY_A = Constraints(denied_domains=("A.test",))
DENY_A_ONLY = replace(DENY_A, denylist_expansion_enabled=False)


@pytest.mark.parametrize(
    ("candidate", "constraints", "message"),
    [
        pytest.param(settings(), A_B, None, id="an empty list is within every bound"),
        pytest.param(settings("a.test b.test c.test"), A_B_AND_MORE, None, id="a list that was added to"),
        pytest.param(
            settings("a.test c.test"),
            A_B_AND_MORE,
            'allowed_domains: missing managed allowed_domains entries (allowed ["b.test"])',
            id="a list that lacks a managed entry",
        ),
        pytest.param(settings("a.test", "b.test"), A_B_AND_MORE, None, id="what is denied instead narrows"),
        pytest.param(settings("b.test a.test"), A_B_ONLY, None, id="the managed list in another order"),
        pytest.param(settings("a.test", "b.test"), A_B_ONLY, None, id="the managed list with one entry denied"),
        pytest.param(
            settings("a.test"),
            A_B_ONLY,
            'allowed_domains: ["a.test"] (allowed must match managed allowed_domains)',
            id="less than the managed list",
        ),
        pytest.param(
            settings("a.test b.test c.test"),
            A_B_ONLY,
            'allowed_domains: ["a.test", "b.test", "c.test"] (allowed must match managed allowed_domains)',
            id="more than the managed list",
        ),
        pytest.param(settings(denied="a.test b.test"), DENY_A, None, id="more denials"),
        pytest.param(
            settings(denied="b.test"),
            DENY_A,
            'denied_domains: missing managed denied_domains entries (allowed ["a.test"])',
            id="a denial that is missing",
        ),
        pytest.param(settings(denied="a.test"), DENY_A_ONLY, None, id="exactly the managed denials"),
        pytest.param(
            settings(denied="a.test b.test"),
            DENY_A_ONLY,
            'denied_domains: ["a.test", "b.test"] (allowed must match managed denied_domains)',
            id="denials that may not be added to",
        ),
        pytest.param(
            settings(unix_sockets=("/run/A.sock",)),
            Constraints(allow_unix_sockets=("/run/x/../a.sock",)),
            None,
            id="a socket in another spelling",
        ),
        pytest.param(
            settings(unix_sockets=("/run/a.sock", "/run/b.sock")),
            Constraints(allow_unix_sockets=("/run/a.sock",)),
            'allow_unix_sockets: ["/run/b.sock"] (allowed subset of managed allow_unix_sockets)',
            id="a socket that is not managed",
        ),
    ],
)
def test_lists(candidate: NetworkSettings, constraints: Constraints, message: str | None) -> None:
    assert found(candidate, constraints) == ([] if message is None else [f"invalid value for network.{message}"])


def test_everything_is_reported_in_the_order_of_the_reference() -> None:
    hook = HookSettings(0, parse_host("a.test"), ("GET",), ("pattern:[",))
    wide = settings("c.test", mode=NetworkMode.FULL, hooks=(hook,), enabled=True, unix_sockets=("/b",))
    bound = Constraints(
        enabled=False,
        mode=NetworkMode.LIMITED,
        allowed_domains=(),
        denied_domains=("a.test",),
        allow_unix_sockets=(),
    )
    violations = validate(wide, bound)
    fields = ["mitm_hooks", "enabled", "mode", "allowed_domains", "denied_domains", "allow_unix_sockets"]
    assert [violation.field for violation in violations] == fields
    assert str(violations[0]) == (
        "invalid value for network.mitm_hooks: invalid network.mitm_hooks[0].match.path_prefixes: invalid glob "
        "pattern; write `*` and `**` only, or `literal:` for plain text (allowed valid MITM hook configuration)"
    )


def test_a_long_list_is_cut_in_the_message() -> None:
    many = settings(" ".join(f"h{number}.test" for number in range(25)))
    (message,) = found(many, Constraints(allowed_domains=()))
    assert '"h19.test", and 5 more] (allowed subset of' in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"allowed_domains": ("a.test", "*")}, r'allowed_domains "\*": unsupported global', id="a star"),
        pytest.param({"denied_domains": ("http://a.test",)}, 'denied_domains "http://a.test": is a URL', id="a URL"),
        pytest.param({"mode": "limited"}, 'mode is "limited"; use a NetworkMode', id="a mode as text"),
        pytest.param({"allow_local_binding": 0}, "allow_local_binding is 0; use True", id="a switch as number"),
        pytest.param({"enabled": "false"}, 'enabled is "false"; use True', id="a switch as text"),
        pytest.param(
            {"denylist_expansion_enabled": 0}, "denylist_expansion_enabled is 0; use", id="expansion as number"
        ),
        pytest.param({"denied_domains": "localhost"}, 'denied_domains is "localhost"; use a', id="a host for a list"),
        pytest.param({"allowed_domains": (b"a.test",)}, "allowed_domains is .*; use a tuple of", id="bytes"),
        pytest.param({"allow_unix_sockets": "/run"}, 'allow_unix_sockets is "/run"; use a', id="a path for a list"),
    ],
)
def test_constraints_that_make_no_sense_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"network proxy constraints are invalid: {message}"):
        Constraints(**values)  # type: ignore[arg-type]  # on purpose


def test_lists_do_as_tuples() -> None:
    lists = Constraints(allowed_domains=["a.test"], allow_unix_sockets=["/run/a.sock"])  # type: ignore[arg-type]  # so
    assert lists == Constraints(allowed_domains=("a.test",), allow_unix_sockets=("/run/a.sock",))
    assert found(settings("a.test"), lists) == []
