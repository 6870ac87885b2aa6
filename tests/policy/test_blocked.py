from __future__ import annotations

import json
from dataclasses import replace

import pytest

from codex_network_proxy.policy import blocked as module
from codex_network_proxy.policy.blocked import BlockedBuffer, BlockedRequest, is_reported
from codex_network_proxy.policy.decision import (
    Blocked,
    Decision,
    DecisionSource,
    HttpUse,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
    Tunnel,
)
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.unix_sockets import UNIX_SOCKET

NOW = 1_764_000_000.75

HTTP, CONNECT = NetworkProtocol.HTTP, NetworkProtocol.HTTPS_CONNECT
TCP, UDP = NetworkProtocol.SOCKS5_TCP, NetworkProtocol.SOCKS5_UDP
BASE, GUARD = DecisionSource.BASELINE_POLICY, DecisionSource.MODE_GUARD
STATE, DECIDER = DecisionSource.PROXY_STATE, DecisionSource.DECIDER


def block(
    protocol: NetworkProtocol, reason: str, source: DecisionSource, *, method: str | None = None, inner: bool = False
) -> Blocked:
    use = HttpUse(method or "GET", secure=True) if inner else Tunnel()
    request = NetworkPolicyRequest(protocol, parse_endpoint("blocked.test:443"), use, method, "127.0.0.1:50001")
    decision = Decision.ASK if source is DECIDER else Decision.DENY
    return Blocked("id-1", request, (Ruling(decision, reason, source, PolicyScope.DOMAIN),))


def entry(host: str = "blocked.test") -> BlockedRequest:
    return replace(BlockedRequest.of(block(HTTP, "denied", BASE), "full", NOW), host=host)


@pytest.mark.parametrize(
    ("reason", "source", "reported"),
    [
        pytest.param("proxy_disabled", STATE, True, id="the proxy is off"),
        pytest.param("not_allowed", STATE, False, id="another reason"),
        pytest.param("method_not_allowed", GUARD, False, id="the mode"),
    ],
)
def test_a_refused_unix_socket_counts_only_while_the_proxy_is_off(
    reason: str, source: DecisionSource, reported: bool
) -> None:
    request = NetworkPolicyRequest(HTTP, UNIX_SOCKET, HttpUse("GET"), "GET", socket_path="/run/a\x1b.sock")
    verdict = Blocked("id-1", request, (Ruling(Decision.DENY, reason, source, PolicyScope.NON_DOMAIN),))
    assert is_reported(verdict) is reported
    found = BlockedRequest.of(verdict, "full", NOW)
    assert (found.host, found.port, found.protocol) == (r"/run/a\x1b.sock", 0, "http")
    assert is_reported(block(HTTP, reason, source)), "any other block counts"


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        pytest.param(
            block(CONNECT, "not_allowed", BASE, method="CONNECT"),
            '"reason":"not_allowed","client":"127.0.0.1:50001","method":"CONNECT","mode":null,'
            '"protocol":"http-connect","decision":"deny","source":"baseline_policy","port":443',
            id="CONNECT has a label of its own",
        ),
        pytest.param(
            block(CONNECT, "mitm_required", GUARD, method="CONNECT"),
            '"reason":"mitm_required","client":"127.0.0.1:50001","method":"CONNECT","mode":"limited",'
            '"protocol":"http-connect","decision":"deny","source":"mode_guard","port":443',
            id="the mode is kept where it played a part",
        ),
        pytest.param(
            block(HTTP, "not_allowed", DECIDER, method="GET"),
            '"reason":"not_allowed","client":"127.0.0.1:50001","method":"GET","mode":null,'
            '"protocol":"http","decision":"ask","source":"decider","port":443',
            id="ask is labelled",
        ),
        pytest.param(
            block(TCP, "method_not_allowed", GUARD),
            '"reason":"method_not_allowed","client":"127.0.0.1:50001","method":null,"mode":"limited",'
            '"protocol":"socks5","decision":"deny","source":"mode_guard","port":443',
            id="SOCKS has no method",
        ),
        pytest.param(
            block(UDP, "denied", BASE),
            '"reason":"denied","client":"127.0.0.1:50001","method":null,"mode":null,'
            '"protocol":"socks5-udp","decision":"deny","source":"baseline_policy","port":443',
            id="UDP is told apart",
        ),
        pytest.param(
            block(CONNECT, "mitm_hook_denied", GUARD, method="POST", inner=True),
            '"reason":"mitm_hook_denied","client":"127.0.0.1:50001","method":"POST","mode":"limited",'
            '"protocol":"https","port":443',
            id="an inner request omits decision and source",
        ),
        pytest.param(
            block(HTTP, "denied", BASE, method="GET", inner=True),
            '"reason":"denied","client":"127.0.0.1:50001","method":"GET","mode":null,'
            '"protocol":"http","decision":"deny","source":"baseline_policy","port":443',
            id="a plain request is not an inner one",
        ),
        pytest.param(
            block(CONNECT, "proxy_disabled", STATE, method="CONNECT"),
            '"reason":"proxy_disabled","client":"127.0.0.1:50001","method":"CONNECT","mode":null,'
            '"protocol":"https_connect","decision":"deny","source":"proxy_state","port":443',
            id="a disabled proxy uses the audit label",
        ),
        pytest.param(
            block(CONNECT, "proxy_disabled", STATE, method="GET", inner=True),
            '"reason":"proxy_disabled","client":"127.0.0.1:50001","method":"GET","mode":null,'
            '"protocol":"https_connect","decision":"deny","source":"proxy_state","port":443',
            id="a disabled proxy keeps decision and source inside a tunnel too",
        ),
    ],
)
def test_an_entry_has_the_documented_keys_in_their_order(verdict: Blocked, line: str) -> None:
    entry = BlockedRequest.of(verdict, NetworkMode.LIMITED, NOW)
    assert entry.json_line() == f'{{"host":"blocked.test",{line},"timestamp":1764000000}}'


def test_an_entry_without_what_is_optional_keeps_only_the_documented_nulls() -> None:
    bare = BlockedRequest("h.test", "denied", None, None, None, "http", 1)
    assert list(json.loads(bare.json_line()).items()) == [
        ("host", "h.test"),
        ("reason", "denied"),
        ("client", None),
        ("method", None),
        ("mode", None),
        ("protocol", "http"),
        ("timestamp", 1),
    ]


def test_words_from_the_wire_are_spelled_out() -> None:
    hostile = replace(entry(), method="GET\x1b[2J", reason="no\x07")
    fields = json.loads(hostile.json_line())
    assert (fields["method"], fields["reason"]) == (r"GET\x1b[2J", r"no\x07")


def test_the_buffer_keeps_the_last_200_and_counts_all() -> None:
    buffer = BlockedBuffer()
    for number in range(205):
        buffer.add(entry(f"h{number}.test"))
    assert (len(buffer), buffer.total) == (200, 205)
    assert (buffer.snapshot()[0].host, buffer.snapshot()[-1].host) == ("h5.test", "h204.test")


def test_a_snapshot_leaves_the_entries_and_a_drain_takes_them() -> None:
    buffer = BlockedBuffer()
    buffer.add(entry("a.test"))
    taken = buffer.snapshot()
    buffer.add(entry("b.test"))
    assert [one.host for one in taken] == ["a.test"]
    assert [one.host for one in buffer.drain()] == ["a.test", "b.test"]
    assert (buffer.drain(), len(buffer), buffer.total) == ((), 0, 2)


def test_the_total_stops_at_its_end_instead_of_running_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOTAL_LIMIT", 1)
    buffer = BlockedBuffer()
    buffer.add(entry())
    buffer.add(entry())
    assert buffer.total == 1
