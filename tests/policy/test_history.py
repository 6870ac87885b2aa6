"""Audit logs read back: what the events of a request say together, and lines that say nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.decision import (
    Decision,
    DecisionSource,
    IPAddress,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
)
from codex_network_proxy.policy.history import read_history
from codex_network_proxy.policy.hosts import parse_endpoint

ALLOW = Ruling(Decision.ALLOW, "allow", DecisionSource.BASELINE_POLICY, PolicyScope.DOMAIN, "*.a.test")
DECIDED = Ruling(Decision.ALLOW, "not_allowed", DecisionSource.DECIDER, PolicyScope.DOMAIN, override=True)
METHOD = Ruling(Decision.DENY, "method_not_allowed", DecisionSource.MODE_GUARD, PolicyScope.NON_DOMAIN)
HOOK = Ruling(Decision.ALLOW, "allow", DecisionSource.MODE_GUARD, PolicyScope.NON_DOMAIN, "mitm_hooks[0]")


def lines(
    *rulings: Ruling,
    target: str = "x.a.test:443",
    protocol: NetworkProtocol = NetworkProtocol.HTTPS_CONNECT,
    method: str | None = "CONNECT",
    peer: str | None = None,
    request_id: str = "id-1",
) -> Iterator[str]:
    request = NetworkPolicyRequest(protocol, parse_endpoint(target), method=method)
    for ruling in rulings:
        yield PolicyDecisionEvent.of(ruling, request, request_id, 86_400.5, peer).json_line()


def changed(**fields: object) -> str:
    """A good event with other fields; `None` takes one away. A dot in a name is written as `__`."""
    event = json.loads(next(lines(ALLOW)))
    event |= {name.replace("__", "."): value for name, value in fields.items()}
    return json.dumps({name: value for name, value in event.items() if value is not None})


def test_an_event_is_read_back_as_it_was_written() -> None:
    (found,) = read_history(lines(ALLOW, peer="192.0.2.7")).requests
    assert (found.time, found.protocol) == ("1970-01-02T00:00:00.500Z", NetworkProtocol.HTTPS_CONNECT)
    assert (str(found.target), found.method, found.rule) == ("x.a.test:443", "CONNECT", "*.a.test")
    assert (found.decision, found.reason, found.source) == (Decision.ALLOW, "allow", DecisionSource.BASELINE_POLICY)
    assert (found.allowed, found.override, found.peer) == (True, False, ip_address("192.0.2.7"))


@pytest.mark.parametrize(
    ("rulings", "allowed", "reason", "rule", "override"),
    [
        pytest.param((ALLOW, METHOD), False, "method_not_allowed", "*.a.test", False, id="the last ruling counts"),
        pytest.param((ALLOW, HOOK), True, "allow", "*.a.test", False, id="a hook is not the rule of the host"),
        pytest.param((DECIDED, METHOD), False, "method_not_allowed", None, True, id="what a decider did is kept"),
    ],
)
def test_the_events_of_a_request_are_one_request(
    rulings: tuple[Ruling, ...], allowed: bool, reason: str, rule: str | None, override: bool
) -> None:
    (found,) = read_history(lines(*rulings)).requests
    assert (found.allowed, found.reason, found.rule, found.override) == (allowed, reason, rule, override)


def test_requests_stand_in_the_order_of_the_log() -> None:
    log = [*lines(ALLOW, target="b.test:1"), *lines(ALLOW, target="a.test:2", request_id="id-2")]
    assert [str(one.target) for one in read_history(log).requests] == ["b.test:1", "a.test:2"]


def test_a_pinned_address_is_known_from_any_event() -> None:
    log = [*lines(ALLOW, peer="::1"), *lines(HOOK)]
    (found,) = read_history(log).requests
    assert found.peer == ip_address("::1")


@pytest.mark.parametrize(
    ("protocol", "method", "inner"),
    [
        pytest.param(NetworkProtocol.HTTPS_CONNECT, "GET", True, id="a request inside a tunnel"),
        pytest.param(NetworkProtocol.SOCKS5_TCP, "GET", True, id="a request inside a SOCKS5 tunnel"),
        pytest.param(NetworkProtocol.HTTPS_CONNECT, "CONNECT", False, id="a tunnel"),
        pytest.param(NetworkProtocol.SOCKS5_TCP, None, False, id="a SOCKS5 tunnel"),
        pytest.param(NetworkProtocol.HTTP, "GET", False, id="plain HTTP"),
    ],
)
def test_inner_requests_are_told_apart(protocol: NetworkProtocol, method: str | None, inner: bool) -> None:
    (found,) = read_history(lines(ALLOW, protocol=protocol, method=method)).requests
    assert (found.is_inner, found.method) == (inner, method)


def test_unix_sockets_have_no_host_and_are_left_out() -> None:
    assert read_history([changed(server__address="unix-socket", server__port=0)]) == read_history([])


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('{"event.name":"codex.netw', id="a torn line"),
        pytest.param("[]", id="another JSON value"),
        pytest.param("[" * 100_000, id="nested without end"),
        pytest.param('{"event.name":"something else"}', id="another event"),
        pytest.param(changed(request__id=None), id="no id"),
        pytest.param(changed(request__id=7), id="an id that is no text"),
        pytest.param(changed(server__address="a..test"), id="a host that cannot be"),
        pytest.param(changed(server__address=["a.test"]), id="a host that is no text"),
        pytest.param(changed(server__port=70_000), id="a port out of range"),
        pytest.param(changed(server__port="443"), id="a port that is no number"),
        pytest.param(changed(network__policy__decision="maybe"), id="a decision of its own"),
        pytest.param(changed(network__transport__protocol="gopher"), id="a protocol of its own"),
        pytest.param(changed(network__peer__address="here"), id="an address that is none"),
    ],
)
def test_a_line_that_is_no_event_is_counted(line: str) -> None:
    found = read_history([line, *lines(ALLOW), "\n"])
    assert (len(found.requests), found.unread) == (1, 1)


def test_addresses_are_of_any_kind() -> None:
    found: IPAddress | None = read_history(lines(ALLOW, target="[2001:db8::1]:443")).requests[0].target.host.address
    assert found == ip_address("2001:db8::1")
