"""Requirements and rules of the embedding application, laid over a configuration (spec B1.5)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.constraints import Constraints
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.overlays import ManagedPolicy, NetworkRequirements, NetworkRule, apply_rules
from codex_network_proxy.policy.patterns import parse_pattern
from codex_network_proxy.policy.settings import NetworkSettings


def settings(allowed: str = "", denied: str = "", **changes: object) -> NetworkSettings:
    """A table whose lists are written as words."""
    base = NetworkSettings(
        allowed=tuple(map(parse_pattern, allowed.split())), denied=tuple(map(parse_pattern, denied.split()))
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # rows name real fields


def managed(expansion: bool = True, **requirements: object) -> ManagedPolicy:
    return ManagedPolicy(NetworkRequirements(**requirements), expansion)  # type: ignore[arg-type]  # real fields


def words(settings: NetworkSettings) -> tuple[str, str]:
    return tuple(" ".join(map(str, patterns)) for patterns in (settings.allowed, settings.denied))  # type: ignore[return-value]  # two of them


@pytest.mark.parametrize(
    ("policy", "before", "after"),
    [
        pytest.param(managed(), ("a.test", "b.test"), ("a.test", "b.test"), id="no requirement changes nothing"),
        pytest.param(
            managed(allowed_domains=("m.test", "A.test")),
            ("u.test a.test", ""),
            ("m.test a.test u.test", ""),
            id="managed entries come first, the user's are added once",
        ),
        pytest.param(
            managed(False, allowed_domains=("m.test",)), ("u.test", ""), ("m.test", ""), id="no expansion replaces"
        ),
        pytest.param(
            managed(allowed_domains=("m.test",), managed_allowed_domains_only=True),
            ("u.test", ""),
            ("m.test", ""),
            id="managed entries only",
        ),
        pytest.param(
            managed(managed_allowed_domains_only=True), ("u.test", ""), ("", ""), id="managed only, and there are none"
        ),
        pytest.param(
            managed(False, denied_domains=("m.test",)),
            ("a.test", "u.test"),
            ("a.test", "m.test u.test"),
            id="the user's denials are always kept",
        ),
    ],
)
def test_required_lists(policy: ManagedPolicy, before: tuple[str, str], after: tuple[str, str]) -> None:
    assert words(policy.apply(settings(*before))) == after


@pytest.mark.parametrize(
    ("requirement", "setting"),
    [
        ("enabled", "enabled"),
        ("allow_upstream_proxy", "allow_upstream_proxy"),
        ("dangerously_allow_non_loopback_proxy", "allow_non_loopback"),
        ("dangerously_allow_all_unix_sockets", "allow_all_unix_sockets"),
        ("allow_local_binding", "allow_local_binding"),
    ],
)
@pytest.mark.parametrize("value", [True, False])
def test_a_required_switch_is_set(requirement: str, setting: str, value: bool) -> None:
    before = replace(settings(), **{setting: not value})  # type: ignore[arg-type]  # a real field
    applied = managed(**{requirement: value}).apply(before)
    assert getattr(applied, setting) is value


def test_required_ports_are_on_loopback() -> None:
    applied = managed(http_port=4000, socks_port=0).apply(settings())
    assert [(listen.host, listen.port) for listen in (applied.http_listen, applied.socks_listen)] == [
        (ip_address("127.0.0.1"), 4000),
        (ip_address("127.0.0.1"), 0),
    ]


def test_required_unix_sockets_replace_the_users() -> None:
    policy = managed(allow_unix_sockets=("/run/x/../m.sock", "/run/m.sock"))
    assert policy.apply(settings(unix_sockets=("/u.sock",))).unix_sockets == ("/run/m.sock",)


@pytest.mark.parametrize(("only", "hard"), [(True, True), (False, False)])
def test_only_managed_entries_make_a_miss_final(only: bool, hard: bool) -> None:
    policy = managed(allowed_domains=("m.test",), managed_allowed_domains_only=only)
    assert policy.apply(settings()).hard_allowlist is hard


def test_lists_do_as_tuples() -> None:
    lists = NetworkRequirements(allowed_domains=["a.test"])  # type: ignore[arg-type]  # as read from elsewhere
    assert lists == NetworkRequirements(allowed_domains=("a.test",))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(
            {"allowed_domains": ("*",)}, r'constraints are invalid: allowed_domains "\*": unsupported', id="a star"
        ),
        pytest.param({"http_port": 65536}, "requirements are invalid: http_port is 65536; use 0 to", id="a port"),
        pytest.param({"http_port": "80"}, 'requirements are invalid: http_port is "80"; use 0 to', id="a port as text"),
        pytest.param({"allow_local_binding": "false"}, 'allow_local_binding is "false"; use', id="a switch as text"),
        pytest.param({"denied_domains": "localhost"}, 'denied_domains is "localhost"; use a', id="a host for a list"),
        pytest.param({"socks_port": -1}, "requirements are invalid: socks_port is -1; use 0 to", id="a SOCKS port"),
    ],
)
def test_requirements_that_make_no_sense_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkRequirements(**values)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("rules", "before", "after"),
    [
        pytest.param([("a.test", "allow")], ("b.test", "a.test"), ("b.test a.test", ""), id="an allow moves the host"),
        pytest.param([("A.Test.", "forbid")], ("a.test b.test", ""), ("b.test", "a.test"), id="a forbid moves it back"),
        pytest.param([("a.test", "prompt")], ("", "a.test"), ("", "a.test"), id="a prompt says nothing"),
        pytest.param(
            [("a.test", "allow")], ("a.test b.test", ""), ("b.test a.test", ""), id="adding again moves to the end"
        ),
        pytest.param(
            [("a.test", "forbid"), ("b.test", "forbid"), ("a.test", "forbid")],
            ("", ""),
            ("", "b.test a.test"),
            id="forbidding again moves to the end",
        ),
        pytest.param([("a.test", "allow")], ("", "**.a.test"), ("a.test", "**.a.test"), id="a wildcard denial stays"),
        pytest.param([("a.test:443", "allow")], ("", "a.test"), ("a.test:443", "a.test"), id="an allow keeps its port"),
        pytest.param([("a.test:443", "forbid")], ("", ""), ("", "a.test"), id="a forbid holds for every port"),
        pytest.param([("[::1]:443", "forbid")], ("", ""), ("", "::1"), id="also of an IPv6 address"),
        pytest.param([("10.0.0.1", "forbid")], ("", ""), ("", "10.0.0.1"), id="an address"),
    ],
)
def test_rules_about_hosts(rules: list[tuple[str, str]], before: tuple[str, str], after: tuple[str, str]) -> None:
    made = [NetworkRule(host, decision) for host, decision in rules]  # type: ignore[arg-type]  # rows are right
    assert words(apply_rules(settings(*before), made)) == after


@pytest.mark.parametrize(
    ("host", "message"),
    [
        pytest.param("", "network_rule host cannot be empty", id="nothing"),
        pytest.param("  ", "network_rule host cannot be empty", id="blanks"),
        pytest.param("*.a.test", "must be a specific host; wildcards are not allowed", id="a wildcard"),
        pytest.param("*", "must be a specific host; wildcards are not allowed", id="a star"),
        pytest.param("https://a.test", r"must be a hostname or IP literal \(without scheme or path\)", id="a URL"),
        pytest.param("a.test/x", r"hostname or IP literal \(without scheme or path\)", id="a path"),
        pytest.param("a.test?x", r"hostname or IP literal \(without scheme or path\)", id="a query"),
        pytest.param("a.test#x", r"hostname or IP literal \(without scheme or path\)", id="a fragment"),
        pytest.param("me@a.test", r"hostname or IP literal \(without scheme or path\)", id="user-info"),
        pytest.param("10.0.0.0/8", r"hostname or IP literal \(without scheme or path\)", id="a range"),
        pytest.param("a. test", "network_rule host cannot contain whitespace", id="a blank inside"),
        pytest.param("a..test", 'network_rule host "a..test" host has an empty label', id="no host at all"),
    ],
)
def test_a_rule_about_no_single_host_is_refused(host: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkRule(host, "allow")


def test_a_rule_that_decides_nothing_known_is_refused() -> None:
    with pytest.raises(ValueError, match='decision is "deny"; write allow, forbid or prompt'):
        NetworkRule("a.test", "deny")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("policy", "candidate", "problems"),
    [
        pytest.param(
            ManagedPolicy(constraints=Constraints(enabled=False)),
            settings(enabled=True),
            ["invalid value for network.enabled: true (allowed false (disabled by managed config))"],
            id="a constraint",
        ),
        pytest.param(
            replace(managed(denied_domains=("m.test",)), rules=(NetworkRule("m.test", "allow"),)),
            settings(),
            ['invalid value for network.denied_domains: missing managed denied_domains entries (allowed ["m.test"])'],
            id="a rule cannot lift a managed denial",
        ),
        pytest.param(
            replace(
                managed(managed_allowed_domains_only=True),
                rules=(NetworkRule("a.test", "allow"),),
                constraints=Constraints(enabled=False, allowed_domains=()),
            ),
            settings(enabled=True),
            [
                'invalid value for network.allowed_domains: ["a.test"] (allowed must match managed allowed_domains)',
                "invalid value for network.enabled: true (allowed false (disabled by managed config))",
                'invalid value for network.allowed_domains: ["a.test"] (allowed subset of managed allowed_domains)',
            ],
            id="requirements and constraints are reported together",
        ),
    ],
)
def test_the_result_stays_within_the_constraints(
    policy: ManagedPolicy, candidate: NetworkSettings, problems: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        policy.apply(candidate)
    assert [str(problem) for problem in caught.value.problems] == [
        f"network proxy constraints: {problem}" for problem in problems
    ]
