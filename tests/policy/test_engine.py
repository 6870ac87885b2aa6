"""The decision in the order of spec A3. Rows say what is asked; the reason is asserted, not only the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    Decision,
    DecisionSource,
    HttpUse,
    NetworkProtocol,
    PolicyScope,
    Tunnel,
    Use,
)
from codex_network_proxy.policy.engine import forget_judgements, judge_host
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.modes import NetworkMode

from .decisions import LIMITED, PUBLIC, RecordingResolver, a_world, ask, compile_policy, reason


@dataclass(frozen=True)
class Row:
    target: str
    expected: str
    allowed: tuple[str, ...] = ("allowed.test",)
    denied: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


HOST_ROWS = {
    "a listed name that resolves publicly passes": Row("allowed.test:443", "allow"),
    "a name that is not listed is not allowed": Row("other.test:443", "not_allowed"),
    "an empty allowlist allows nothing": Row("allowed.test:443", "not_allowed", allowed=()),
    "deny wins over the same allow": Row("allowed.test:443", "denied", denied=("allowed.test",)),
    "an exact deny wins over a wildcard allow": Row("a.x.test:443", "denied", ("*.x.test",), ("a.x.test",)),
    "a wildcard deny wins over an exact allow": Row("a.x.test:443", "denied", ("a.x.test",), ("*.x.test",)),
    "a deny of one port leaves the others": Row("allowed.test:443", "allow", denied=("allowed.test:25",)),
    "a deny of this port holds under an allow of all": Row("allowed.test:25", "denied", denied=("allowed.test:25",)),
    "an allow of one port allows no other": Row("allowed.test:22", "not_allowed", ("allowed.test:443",)),
    "a denied range covers a literal": Row("93.184.216.34:443", "denied", (PUBLIC,), ("93.184.216.0/24",)),
    "a denied range covers a resolved address": Row("allowed.test:443", "denied", denied=("93.184.216.0/24",)),
    "a denied literal covers a resolved address": Row(
        "listed.test:443", "denied", ("listed.test",), ("93.184.216.99",)
    ),
    "a public literal needs an entry": Row("8.8.8.8:53", "not_allowed"),
    "a public literal with an entry passes": Row("8.8.8.8:53", "allow", ("8.8.8.8",)),
    "a loopback literal is local": Row("127.0.0.1:80", "not_allowed_local"),
    "a loopback literal is local under an empty list": Row("127.0.0.1:80", "not_allowed_local", ()),
    "an explicit literal opens itself": Row("127.0.0.1:80", "allow", ("127.0.0.1",)),
    "an explicit literal opens no neighbour": Row("127.0.0.2:80", "not_allowed_local", ("127.0.0.1",)),
    "an explicit literal of another port opens nothing": Row("127.0.0.1:81", "not_allowed_local", ("127.0.0.1:80",)),
    "an explicit range opens private literals": Row("10.1.2.3:80", "allow", ("10.0.0.0/8",)),
    "an explicit range never opens a name that resolves there": Row(
        "private.test:80", "not_allowed_local", ("10.0.0.0/8", "private.test")
    ),
    "local binding opens a private literal that is listed": Row(
        "10.0.0.1:80", "allow", ("10.0.0.1",), settings={"allow_local_binding": True}
    ),
    "local binding without an entry is only not allowed": Row(
        "10.0.0.1:80", "not_allowed", (), settings={"allow_local_binding": True}
    ),
    "local binding opens a listed name that resolves privately": Row(
        "private.test:80", "allow", ("private.test",), settings={"allow_local_binding": True}
    ),
    "local binding never opens metadata by name": Row(
        "metadata.test:80", "not_allowed_local", ("metadata.test",), settings={"allow_local_binding": True}
    ),
    "local binding never opens a metadata literal": Row(
        "169.254.169.254:80", "not_allowed_local", (), settings={"allow_local_binding": True}
    ),
    "a metadata literal with an entry of its own passes": Row("169.254.169.254:80", "allow", ("169.254.169.254",)),
    "a listed name that resolves privately is local": Row("private.test:80", "not_allowed_local", ("private.test",)),
    "one private address among public ones blocks the name": Row("mixed.test:80", "not_allowed_local", ("mixed.test",)),
    "a private IPv6 address alone blocks the name": Row("mixed6.test:80", "not_allowed_local", ("mixed6.test",)),
    "an address that embeds loopback blocks the name": Row(
        "translated.test:80", "not_allowed_local", ("translated.test",)
    ),
    "localhost is local": Row("localhost:80", "not_allowed_local"),
    "localhost with its entry passes": Row("localhost:80", "allow", ("localhost",)),
    "a wildcard never opens localhost": Row("localhost:80", "not_allowed_local", ("**.localhost",)),
    "a name below localhost is a name and resolves": Row("foo.localhost:80", "unresolved", ("foo.localhost",)),
    "the entry localhost does not open 127.0.0.1": Row("127.0.0.1:80", "not_allowed_local", ("localhost",)),
    "local binding leaves localhost to the allowlist": Row(
        "localhost:80", "not_allowed", (), settings={"allow_local_binding": True}
    ),
    "the proxy never dials itself": Row("127.0.0.1:3128", "not_allowed_local", ("127.0.0.1",)),
    "the proxy never dials itself by name": Row(
        "loopback.test:3128", "not_allowed_local", ("loopback.test",), settings={"allow_local_binding": True}
    ),
    "a name without an address is no policy block": Row("unknown.test:80", "unresolved", ("unknown.test",)),
    "a name with an empty answer is no policy block": Row("empty.test:80", "unresolved", ("empty.test",)),
    "a disabled proxy allows nothing": Row("allowed.test:80", "proxy_disabled", settings={"enabled": False}),
}


@pytest.mark.parametrize("row", HOST_ROWS.values(), ids=HOST_ROWS.keys())
def test_the_host_policy(row: Row) -> None:
    policy = compile_policy(row.allowed, row.denied, settings=row.settings)
    assert reason(ask(policy, row.target)) == row.expected


def test_localhost_that_resolves_elsewhere_is_local() -> None:
    world = a_world(RecordingResolver({"localhost": ("127.0.0.1", "10.0.0.1")}))
    assert reason(ask(compile_policy(("localhost",)), "localhost:80", world=world)) == "not_allowed_local"


def test_a_scoped_literal_keeps_its_zone_when_dialled() -> None:
    verdict = ask(compile_policy(("fe80::1%lo",)), "[fe80::1%lo]:80")
    assert isinstance(verdict, Allowed)
    assert [str(address) for address in verdict.addresses] == ["fe80::1%lo"]


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("secret-in-label.evil.test:443", id="a name that is not allowed"),
        pytest.param("denied.allowed.test:443", id="a denied name"),
        pytest.param("hooked.test:443", id="a name whose tunnel needs interception that is off"),
        pytest.param("127.0.0.1:443", id="a literal"),
    ],
)
def test_no_query_leaves_for(target: str) -> None:
    resolver = RecordingResolver()
    policy = compile_policy(("hooked.test", "**.allowed.test"), ("denied.allowed.test",), ("hooked.test",))
    assert isinstance(ask(policy, target, world=a_world(resolver)), Blocked)
    assert resolver.asked == []


def test_one_lookup_and_exactly_its_addresses_are_pinned() -> None:
    resolver = RecordingResolver({"allowed.test": (PUBLIC, "93.184.216.35")})
    verdict = ask(compile_policy(), "allowed.test:443", world=a_world(resolver))
    assert isinstance(verdict, Allowed)
    assert verdict.addresses == (ip_address(PUBLIC), ip_address("93.184.216.35"))
    assert resolver.asked == ["allowed.test"]


GET = HttpUse("GET")
SECURE_POST = HttpUse("POST", secure=True, path="/repos/x")
SECURE_GET = HttpUse("GET", secure=True, path="/repos/x")
MITM = {"mitm": True}
LIMITED_MITM = {"mode": NetworkMode.LIMITED, "mitm": True}
HTTP, CONNECT = NetworkProtocol.HTTP, NetworkProtocol.HTTPS_CONNECT
TCP, UDP = NetworkProtocol.SOCKS5_TCP, NetworkProtocol.SOCKS5_UDP


@dataclass(frozen=True)
class UseRow:
    use: Use
    expected: str
    settings: Mapping[str, object] = field(default_factory=dict)
    host: str = "allowed.test"
    protocol: NetworkProtocol = CONNECT
    inspect: bool = False


USE_ROWS = {
    "a tunnel in full mode is relayed": UseRow(Tunnel(), "allow"),
    "interception alone does not intercept": UseRow(Tunnel(), "allow", MITM),
    "a tunnel in limited mode needs interception": UseRow(Tunnel(), "mitm_required", LIMITED),
    "a tunnel in limited mode is inspected": UseRow(Tunnel(), "allow", LIMITED_MITM, inspect=True),
    "a tunnel to a hooked host needs interception": UseRow(Tunnel(), "mitm_required", host="hooked.test"),
    "a tunnel to a hooked host is inspected": UseRow(Tunnel(), "allow", MITM, "hooked.test", inspect=True),
    "SOCKS to a hooked host is inspected": UseRow(Tunnel(), "allow", MITM, "hooked.test", TCP, inspect=True),
    "SOCKS to a hooked host without interception": UseRow(Tunnel(), "mitm_required", {}, "hooked.test", TCP),
    "SOCKS in limited mode": UseRow(Tunnel(), "method_not_allowed", LIMITED_MITM, protocol=TCP),
    "datagrams to a hooked host": UseRow(Tunnel(), "mitm_required", MITM, "hooked.test", UDP),
    "datagrams in limited mode": UseRow(Tunnel(), "method_not_allowed", LIMITED_MITM, protocol=UDP),
    "datagrams in full mode": UseRow(Tunnel(), "allow", protocol=UDP),
    "a plain request in full mode": UseRow(HttpUse("POST", has_body=True), "allow", protocol=HTTP, inspect=True),
    "a plain read in limited mode": UseRow(GET, "allow", LIMITED, protocol=HTTP, inspect=True),
    "a plain write in limited mode": UseRow(HttpUse("POST"), "method_not_allowed", LIMITED, protocol=HTTP),
    "a lower-case read in limited mode": UseRow(HttpUse("get"), "method_not_allowed", LIMITED, protocol=HTTP),
    "a read with a body in limited mode": UseRow(
        HttpUse("GET", has_body=True), "method_not_allowed", LIMITED, protocol=HTTP
    ),
    "a WebSocket in limited mode": UseRow(
        HttpUse("GET", upgrade="websocket"), "method_not_allowed", LIMITED, protocol=HTTP
    ),
    "a WebSocket in full mode": UseRow(HttpUse("GET", upgrade="websocket"), "allow", protocol=HTTP, inspect=True),
    "a plain request to a hooked host": UseRow(HttpUse("POST", path="/repos/x"), "mitm_required", MITM, "hooked.test"),
    "an absolute https request to a hooked host, interception off": UseRow(
        SECURE_POST, "mitm_required", {}, "hooked.test", HTTP
    ),
    "an absolute https request to a hooked host that matches": UseRow(
        SECURE_POST, "allow", MITM, "hooked.test", HTTP, inspect=True
    ),
    "an absolute https request to a hooked host that misses": UseRow(
        SECURE_GET, "mitm_hook_denied", MITM, "hooked.test", HTTP
    ),
    "an inner request to a hooked host that matches": UseRow(SECURE_POST, "allow", MITM, "hooked.test", inspect=True),
    "an inner request to a hooked host that misses": UseRow(SECURE_GET, "mitm_hook_denied", MITM, "hooked.test"),
    "limited mode clamps after a hook matched": UseRow(SECURE_POST, "method_not_allowed", LIMITED_MITM, "hooked.test"),
    "an absolute https read in limited mode without interception": UseRow(
        SECURE_GET, "allow", LIMITED, protocol=HTTP, inspect=True
    ),
}


@pytest.mark.parametrize("row", USE_ROWS.values(), ids=USE_ROWS.keys())
def test_the_use_of_an_allowed_host(row: UseRow) -> None:
    policy = compile_policy(hooked=("hooked.test",), settings=row.settings)
    verdict = ask(policy, f"{row.host}:443", row.use, row.protocol)
    assert reason(verdict) == row.expected
    assert getattr(verdict, "inspect", False) == row.inspect


def test_a_denied_host_wins_over_a_denied_method() -> None:
    verdict = ask(compile_policy((), settings=LIMITED), "other.test:80", HttpUse("POST"), HTTP)
    assert isinstance(verdict, Blocked)
    assert [ruling.reason for ruling in verdict.rulings] == ["not_allowed"]


def test_a_method_block_after_the_host_passed_is_two_rulings() -> None:
    verdict = ask(compile_policy(settings=LIMITED), "allowed.test:80", HttpUse("POST"), HTTP)
    assert isinstance(verdict, Blocked)
    assert [(ruling.scope, ruling.decision, ruling.reason) for ruling in verdict.rulings] == [
        (PolicyScope.DOMAIN, Decision.ALLOW, "allow"),
        (PolicyScope.NON_DOMAIN, Decision.DENY, "method_not_allowed"),
    ]


def test_a_matched_hook_is_named_by_a_ruling_of_its_own() -> None:
    verdict = ask(compile_policy(hooked=("hooked.test",), settings=MITM), "hooked.test:443", SECURE_POST)
    assert isinstance(verdict, Allowed)
    assert verdict.hook is not None
    assert [(ruling.source, ruling.rule) for ruling in verdict.rulings] == [
        (DecisionSource.BASELINE_POLICY, "hooked.test"),
        (DecisionSource.MODE_GUARD, "mitm_hooks[0]"),
    ]


@pytest.mark.parametrize(
    ("target", "protocol", "expected"),
    [
        pytest.param("127.0.0.1:3128", NetworkProtocol.SOCKS5_UDP, "not_allowed_local", id="datagrams to a listener"),
        pytest.param("127.0.0.1:5000", NetworkProtocol.SOCKS5_UDP, "not_allowed_local", id="datagrams to a relay"),
        pytest.param("127.0.0.1:5001", NetworkProtocol.SOCKS5_UDP, "allow", id="datagrams to somebody else"),
        pytest.param("127.0.0.1:5000", NetworkProtocol.SOCKS5_TCP, "allow", id="a connection to a relay's number"),
    ],
)
def test_datagrams_never_lead_back_to_the_proxy(target: str, protocol: NetworkProtocol, expected: str) -> None:
    world = a_world(is_own_relay=lambda _, port: port in (3128, 5000))
    assert reason(ask(compile_policy(("127.0.0.1",)), target, protocol=protocol, world=world)) == expected


def test_each_policy_judges_for_itself_and_none_is_kept_when_it_is_out_of_force() -> None:
    target = parse_endpoint("allowed.test:443")
    wide, narrow = compile_policy(), compile_policy(())
    assert (judge_host(wide, target), judge_host(narrow, target)) != (None, None)
    assert judge_host(narrow, target) is None
    forget_judgements()
    assert judge_host.cache_info().currsize == 0
