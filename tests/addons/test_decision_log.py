from __future__ import annotations

import logging

import pytest

from codex_network_proxy.addons.decision_log import (
    log_bad_head,
    log_host_mismatch,
    log_upstream_failure,
    log_verdict,
    log_violation,
)
from codex_network_proxy.addons.http_head import BadHead, HostMismatch
from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    BlockReason,
    Decision,
    DecisionSource,
    HttpUse,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
    Tunnel,
    Unavailable,
    Unresolved,
    Verdict,
)
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.unix_sockets import UNIX_SOCKET

HTTP, CONNECT = NetworkProtocol.HTTP, NetworkProtocol.HTTPS_CONNECT
TCP, UDP = NetworkProtocol.SOCKS5_TCP, NetworkProtocol.SOCKS5_UDP
BASE, GUARD = DecisionSource.BASELINE_POLICY, DecisionSource.MODE_GUARD
STATE, DECIDER = DecisionSource.PROXY_STATE, DecisionSource.DECIDER

SECRET_PATH = HttpUse("GET", path="/private?token=hunter2", headers=(("cookie", "hunter2"),))


def request(
    protocol: NetworkProtocol, use: HttpUse | None = None, method: str | None = None, client: str | None = "127.0.0.1:5"
) -> NetworkPolicyRequest:
    return NetworkPolicyRequest(protocol, parse_endpoint("api.test:443"), use or Tunnel(), method, client)


def allowed(protocol: NetworkProtocol, use: HttpUse | None = None, *, inspect: bool = False) -> Allowed:
    return Allowed("id-1", request(protocol, use), (), (), inspect)


def blocked(
    protocol: NetworkProtocol,
    reason: str,
    source: DecisionSource = BASE,
    use: HttpUse | None = None,
    rule: str | None = None,
) -> Blocked:
    ruling = Ruling(Decision.DENY, reason, source, PolicyScope.DOMAIN, rule)
    return Blocked("id-1", request(protocol, use), (ruling,))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "codex_network_proxy")
    return caplog


@pytest.mark.parametrize(
    ("verdict", "level", "line"),
    [
        pytest.param(
            allowed(CONNECT),
            "DEBUG",
            "CONNECT allowed (client=127.0.0.1:5, host=api.test, port=443, request_id=id-1)",
            id="a tunnel that is relayed",
        ),
        pytest.param(
            allowed(CONNECT, inspect=True),
            "DEBUG",
            "CONNECT MITM enabled (client=127.0.0.1:5, host=api.test, port=443, mode=limited, request_id=id-1)",
            id="a tunnel that is read",
        ),
        pytest.param(
            allowed(HTTP, SECRET_PATH, inspect=True),
            "DEBUG",
            "request allowed (client=127.0.0.1:5, host=api.test, port=443, method=GET, request_id=id-1)",
            id="a plain request",
        ),
        pytest.param(
            allowed(CONNECT, SECRET_PATH, inspect=True),
            "DEBUG",
            "request allowed (client=127.0.0.1:5, host=api.test, port=443, method=GET, request_id=id-1)",
            id="a request inside a tunnel",
        ),
        pytest.param(
            allowed(TCP),
            "DEBUG",
            "SOCKS allowed (client=127.0.0.1:5, host=api.test, port=443, request_id=id-1)",
            id="a SOCKS tunnel",
        ),
        pytest.param(
            blocked(CONNECT, "not_allowed"),
            "INFO",
            "CONNECT blocked (client=127.0.0.1:5, host=api.test, port=443, reason=not_allowed, request_id=id-1)",
            id="a blocked tunnel",
        ),
        pytest.param(
            blocked(CONNECT, "denied", rule="**.test"),
            "INFO",
            "CONNECT blocked (client=127.0.0.1:5, host=api.test, port=443, reason=denied, rule=**.test, "
            "request_id=id-1)",
            id="the rule that blocked it, for the operator",
        ),
        pytest.param(
            blocked(CONNECT, "proxy_disabled", STATE),
            "INFO",
            "CONNECT blocked; proxy disabled (client=127.0.0.1:5, host=api.test, port=443, request_id=id-1)",
            id="a disabled proxy",
        ),
        pytest.param(
            blocked(CONNECT, "mitm_required", GUARD),
            "INFO",
            "CONNECT blocked; MITM required to enforce HTTPS policy (client=127.0.0.1:5, host=api.test, port=443, "
            "mode=limited, request_id=id-1)",
            id="interception is needed",
        ),
        pytest.param(
            blocked(HTTP, "not_allowed", BASE, SECRET_PATH),
            "INFO",
            "request blocked (client=127.0.0.1:5, host=api.test, port=443, method=GET, reason=not_allowed, "
            "request_id=id-1)",
            id="a blocked request",
        ),
        pytest.param(
            blocked(HTTP, "method_not_allowed", GUARD, HttpUse("POST")),
            "INFO",
            "request blocked by method policy (client=127.0.0.1:5, host=api.test, port=443, method=POST, "
            "mode=limited, allowed_methods=GET, HEAD, OPTIONS, request_id=id-1)",
            id="the method",
        ),
        pytest.param(
            blocked(HTTP, "proxy_disabled", STATE),
            "INFO",
            "request blocked; proxy disabled (client=127.0.0.1:5, host=api.test, port=443, request_id=id-1)",
            id="a disabled proxy, without a request that was read",
        ),
        pytest.param(
            blocked(UDP, "denied"),
            "INFO",
            "SOCKS UDP blocked (client=127.0.0.1:5, host=api.test, port=443, reason=denied, request_id=id-1)",
            id="a datagram",
        ),
        pytest.param(
            blocked(CONNECT, "ask Bob\r\nCONNECT allowed \x1b[2J, request_id=id-9", DECIDER),
            "INFO",
            "CONNECT blocked (client=127.0.0.1:5, host=api.test, port=443, "
            r'reason="ask Bob\\r\\nCONNECT allowed \\x1b[2J, request_id=id-9", request_id=id-1)',
            id="a decider's words forge neither a line nor a field",
        ),
        pytest.param(
            blocked(HTTP, "not_allowed", BASE, HttpUse('G"\x1b]0;x\x07')),
            "INFO",
            r'request blocked (client=127.0.0.1:5, host=api.test, port=443, method="G\"\\x1b]0;x\\x07", '
            "reason=not_allowed, request_id=id-1)",
            id="a method from the wire is quoted and spelled out",
        ),
        pytest.param(
            Unresolved("id-1", request(CONNECT), (), "could not resolve"),
            "INFO",
            "CONNECT failed; could not resolve (client=127.0.0.1:5, host=api.test, port=443, request_id=id-1)",
            id="a name without an address",
        ),
        pytest.param(
            Unavailable("id-1", request(HTTP, client=None)),
            "INFO",
            "request failed; the configuration is broken (client=unknown, host=api.test, port=443, request_id=id-1)",
            id="a broken configuration, from nobody known",
        ),
    ],
)
def test_a_verdict_is_one_line(lines: pytest.LogCaptureFixture, verdict: Verdict, level: str, line: str) -> None:
    log_verdict(verdict, NetworkMode.LIMITED)
    assert [(record.levelname, record.getMessage()) for record in lines.records] == [(level, line)]


def test_a_line_that_nobody_reads_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "codex_network_proxy")
    log_verdict(allowed(CONNECT), "full")
    log_violation(BlockedRequest("h.test", "denied", None, None, None, "http", 1))
    assert caplog.records == []


def test_a_flood_of_questions_does_not_hide_the_ones_that_wait(lines: pytest.LogCaptureFixture) -> None:
    log_verdict(blocked(CONNECT, "ask_queue_full", DecisionSource.DECIDER), "full")
    assert [record.levelname for record in lines.records] == ["DEBUG"]


def test_the_entry_of_a_block_is_a_line_for_programs(lines: pytest.LogCaptureFixture) -> None:
    log_violation(BlockedRequest("h.test", "denied", None, None, None, "http", 1))
    assert lines.messages == [
        'CODEX_NETWORK_POLICY_VIOLATION {"host":"h.test","reason":"denied","client":null,"method":null,'
        '"mode":null,"protocol":"http","timestamp":1}'
    ]


def test_a_mismatched_host_header_is_quoted(lines: pytest.LogCaptureFixture) -> None:
    log_host_mismatch(None, "api.test:80", "evil.test\n, reason=ok", "mismatch")
    assert lines.messages == [
        "request rejected due to mismatched Host header (client=unknown, target=api.test:80, "
        r'host_header="evil.test\\n, reason=ok", reason=mismatch)'
    ]


@pytest.mark.parametrize(
    ("reason", "level", "said"),
    [
        pytest.param(None, "DEBUG", "unix socket allowed ({}, id)", id="allowed"),
        pytest.param(BlockReason.NOT_ALLOWED, "INFO", "unix socket blocked ({}, reason=not_allowed, id)", id="blocked"),
        pytest.param(BlockReason.PROXY_DISABLED, "INFO", "unix socket blocked; proxy disabled ({}, id)", id="disabled"),
    ],
)
def test_a_unix_socket_is_named(
    lines: pytest.LogCaptureFixture, reason: BlockReason | None, level: str, said: str
) -> None:
    asked = NetworkPolicyRequest(HTTP, UNIX_SOCKET, HttpUse("GET"), "GET", "127.0.0.1:5", socket_path="/run/x y.sock")
    decision = Decision.DENY if reason else Decision.ALLOW
    ruling = Ruling(decision, reason or "allow", DecisionSource.PROXY_STATE, PolicyScope.NON_DOMAIN)
    log_verdict(Blocked("id-1", asked, (ruling,)) if reason else Allowed("id-1", asked, (ruling,), ()), "full")
    who = 'client=127.0.0.1:5, path="/run/x y.sock", method=GET'
    expected = said.format(who).replace(", id)", ", request_id=id-1)")
    assert [(record.levelname, record.getMessage()) for record in lines.records] == [(level, expected)]


def test_an_upstream_failure_names_the_request_without_its_path(lines: pytest.LogCaptureFixture) -> None:
    log_upstream_failure(request(HTTP, SECRET_PATH, method="GET"), "id-1", "refused\x1b[2J")
    assert lines.messages == [
        r"upstream request failed: refused\x1b[2J "
        "(client=127.0.0.1:5, host=api.test, port=443, method=GET, request_id=id-1)"
    ]


def test_a_value_of_64_kib_does_not_make_a_line_of_64_kib(lines: pytest.LogCaptureFixture) -> None:
    log_verdict(blocked(HTTP, "not_allowed", BASE, HttpUse("X" * 65_536)), "full")
    assert len(lines.messages[0]) < 500


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        pytest.param(
            HostMismatch(parse_endpoint("api.test:80"), "evil.test"),
            [
                "request rejected due to mismatched Host header "
                "(client=127.0.0.1:5, target=api.test:80, host_header=evil.test, reason=mismatch)"
            ],
            id="a mismatched Host",
        ),
        pytest.param(BadHead(400, "malformed"), [], id="any other head says nothing but its answer"),
    ],
)
def test_a_refused_head(error: BadHead, logged: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_bad_head(error, "127.0.0.1:5")
    assert [record.getMessage() for record in caplog.records] == logged
