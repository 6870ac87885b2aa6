from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from codex_network_proxy.policy.decision import (
    Blocked,
    BlockReason,
    Decision,
    DecisionSource,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
    Unavailable,
    Unresolved,
)
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.responses import (
    BlockResponse,
    block_message,
    connect_refusal,
    connect_response,
    error_code,
    error_response,
    inner_response,
    plain_response,
    socket_response,
    wire,
)
from codex_network_proxy.policy.unix_sockets import UNIX_SOCKET

ID = "4f1d9a02-1f"
Answer = Callable[[Blocked | Unresolved | Unavailable], BlockResponse]
GENERAL = "Codex blocked this request by network policy."

WORDS = [
    pytest.param(
        "not_allowed",
        "blocked-by-allowlist",
        "Codex blocked this request: domain not in allowlist (this is not a denylist block).",
        id="not in the allowlist",
    ),
    pytest.param(
        "not_allowed_local",
        "blocked-by-allowlist",
        "Codex blocked this request: local/private addresses not allowed.",
        id="a local address",
    ),
    pytest.param(
        "denied",
        "blocked-by-denylist",
        "Codex blocked this request: domain denied by policy.",
        id="denied, also when a decider says so",
    ),
    pytest.param(
        "method_not_allowed",
        "blocked-by-method-policy",
        "Codex blocked this request: method not allowed in limited mode.",
        id="the method in limited mode",
    ),
    pytest.param(
        "mitm_hook_denied",
        "blocked-by-mitm-hook",
        "Codex blocked this request: MITM hook policy denied the HTTPS request.",
        id="no hook matches",
    ),
    pytest.param(
        "mitm_required",
        "blocked-by-mitm-required",
        "Codex blocked this request: MITM required to enforce HTTPS policy.",
        id="interception is needed and off",
    ),
    pytest.param("policy_denied", "blocked-by-policy", GENERAL, id="denied without a reason"),
    pytest.param("ask Bob first", "blocked-by-policy", GENERAL, id="a decider's own words"),
    pytest.param("proxy_disabled", "blocked-by-policy", GENERAL, id="a decider cannot say that the proxy is off"),
    pytest.param("x\r\nset-cookie: a=b", "blocked-by-policy", GENERAL, id="a decider's words split no header"),
]


def blocked(
    reason: str,
    source: DecisionSource = DecisionSource.DECIDER,
    protocol: NetworkProtocol = NetworkProtocol.HTTP,
    decision: Decision = Decision.DENY,
) -> Blocked:
    ruling = Ruling(decision, reason, source, PolicyScope.DOMAIN, rule="*.secret-rule.test")
    return Blocked(ID, request("blocked.test:80", protocol), (ruling,))


def request(target: str, protocol: NetworkProtocol = NetworkProtocol.HTTP) -> NetworkPolicyRequest:
    return NetworkPolicyRequest(protocol, parse_endpoint(target))


def headers(response: BlockResponse) -> dict[str, str]:
    assert len(dict(response.headers)) == len(response.headers)
    return dict(response.headers)


@pytest.mark.parametrize("answer", [connect_response, inner_response])
@pytest.mark.parametrize(("reason", "code", "message"), WORDS)
def test_a_blocked_tunnel_and_inner_request_is_one_sentence(
    answer: Answer, reason: str, code: str, message: str
) -> None:
    verdict = blocked(reason)
    response = answer(verdict)
    assert (response.status, response.reason_phrase) == (403, f"Blocked by network policy ({code})")
    assert headers(response) == {
        "content-type": "text/plain",
        "content-length": str(len(message)),
        "x-proxy-error": code,
        "x-proxy-request-id": ID,
    }
    assert response.body.decode() == message
    assert (error_code(verdict), block_message(verdict)) == (code, message)


@pytest.mark.parametrize(("reason", "code", "message"), WORDS)
def test_a_blocked_plain_request_is_compact_json(reason: str, code: str, message: str) -> None:
    response = plain_response(blocked(reason))
    assert (response.status, response.reason_phrase) == (403, f"Blocked by network policy ({code})")
    assert headers(response) == {
        "content-type": "application/json",
        "content-length": str(len(response.body)),
        "x-proxy-error": code,
        "x-proxy-request-id": ID,
    }
    shown = reason.replace("\r\n", r"\r\n")
    assert json.loads(response.body) == {
        "status": "blocked",
        "host": "blocked.test",
        "reason": shown,
        "decision": "deny",
        "source": "decider",
        "protocol": "http",
        "port": 80,
        "message": message,
        "request_id": ID,
    }
    assert b"secret-rule" not in response.body


def test_the_json_body_is_byte_for_byte_the_documented_one() -> None:
    verdict = blocked(BlockReason.NOT_ALLOWED, DecisionSource.BASELINE_POLICY)
    assert plain_response(verdict).body == (
        b'{"status":"blocked","host":"blocked.test","reason":"not_allowed","decision":"deny",'
        b'"source":"baseline_policy","protocol":"http","port":80,"message":"Codex blocked this request: '
        b'domain not in allowlist (this is not a denylist block).","request_id":"4f1d9a02-1f"}'
    )


@pytest.mark.parametrize(
    ("reason", "code"),
    [("not_allowed", "blocked-by-allowlist"), ("method_not_allowed", "blocked-by-method-policy")],
)
def test_a_refused_unix_socket_is_the_short_json(reason: str, code: str) -> None:
    request = NetworkPolicyRequest(NetworkProtocol.HTTP, UNIX_SOCKET)
    ruling = Ruling(Decision.DENY, reason, DecisionSource.PROXY_STATE, PolicyScope.NON_DOMAIN)
    response = socket_response(Blocked(ID, request, (ruling,)))
    assert (response.status, response.reason_phrase) == (403, f"Blocked by network policy ({code})")
    assert response.body.decode() == (
        f'{{"status":"blocked","host":"unix-socket","reason":"{reason}","request_id":"{ID}"}}'
    )
    assert headers(response) == {
        "content-type": "application/json",
        "content-length": str(len(response.body)),
        "x-proxy-error": code,
        "x-proxy-request-id": ID,
    }


def test_a_platform_without_unix_sockets_is_no_policy_block() -> None:
    response = socket_response(blocked(BlockReason.UNIX_SOCKET_UNSUPPORTED, DecisionSource.PROXY_STATE))
    assert (response.status, response.body) == (501, b"unix sockets unsupported")
    assert headers(response) == {"content-type": "text/plain", "content-length": "24", "x-proxy-request-id": ID}


def test_ask_is_labelled_in_the_json_and_answered_like_a_deny() -> None:
    response = plain_response(blocked("not_allowed", decision=Decision.ASK))
    assert response.status == 403
    assert json.loads(response.body)["decision"] == "ask"


def test_long_or_hostile_words_of_a_decider_are_cut_and_spelled_out() -> None:
    body = json.loads(plain_response(blocked("\x1b[31m" + "x" * 100_000)).body)
    assert body["reason"].startswith(r"\x1b[31mxxx")
    assert len(body["reason"]) < 1100


@pytest.mark.parametrize("answer", [connect_response, inner_response, plain_response, socket_response])
def test_a_disabled_proxy_answers_503_in_plain_text_without_a_code(answer: Answer) -> None:
    verdict = blocked(BlockReason.PROXY_DISABLED, DecisionSource.PROXY_STATE)
    response = answer(verdict)
    assert (response.status, response.reason_phrase) == (503, "Blocked by network policy (proxy_disabled)")
    assert headers(response) == {
        "content-type": "text/plain",
        "content-length": str(len(GENERAL)),
        "x-proxy-request-id": ID,
    }
    assert response.body.decode() == GENERAL
    assert (error_code(verdict), block_message(verdict)) == (None, GENERAL)


@pytest.mark.parametrize("answer", [connect_response, inner_response, plain_response, socket_response])
@pytest.mark.parametrize(
    ("verdict", "status", "phrase", "text"),
    [
        pytest.param(
            Unresolved(ID, request("no-such.test:443"), (), "could not resolve no-such.test: Name unknown"),
            502,
            "Bad Gateway (upstream failure: could not resolve no-such.test)",
            "upstream failure: could not resolve no-such.test",
            id="a name without an address is no block",
        ),
        pytest.param(
            Unavailable(ID, request("any.test:443")),
            500,
            "Internal Server Error",
            "error",
            id="a broken configuration says nothing about itself",
        ),
    ],
)
def test_failures_are_plain_text_on_every_door(
    answer: Answer, verdict: Unresolved | Unavailable, status: int, phrase: str, text: str
) -> None:
    response = answer(verdict)
    assert (response.status, response.reason_phrase, response.body.decode()) == (status, phrase, text)
    assert headers(response) == {
        "content-type": "text/plain",
        "content-length": str(len(text)),
        "x-proxy-request-id": ID,
    }


@pytest.mark.parametrize(
    ("status", "text", "phrase"),
    [
        (400, "missing host", "Bad Request"),
        (405, "CONNECT not supported inside MITM", "Method Not Allowed"),
        (408, "request head timed out", "Request Timeout"),
        (431, "request head too large", "Request Header Fields Too Large"),
        (500, "missing state", "Internal Server Error"),
        (501, "unix sockets unsupported", "Not Implemented"),
        (502, "upstream failure: connection refused", "Bad Gateway (upstream failure: connection refused)"),
        (502, "upstream failure: größer", "Bad Gateway"),
        (503, "too many connections", "Service Unavailable"),
    ],
)
def test_other_errors_are_their_text(status: int, text: str, phrase: str) -> None:
    response = error_response(status, text)
    assert (response.status, response.reason_phrase, response.body.decode()) == (status, phrase, text)
    assert headers(response) == {"content-type": "text/plain", "content-length": str(len(text.encode()))}
    assert headers(error_response(status, text, ID))["x-proxy-request-id"] == ID


def test_a_status_line_stays_one_line() -> None:
    response = error_response(502, "upstream failure: a\r\nx-evil: 1")
    assert response.reason_phrase == r"Bad Gateway (upstream failure: a\r\nx-evil: 1)"
    assert wire(response, close=False).count(b"\r\n") == 4


def test_an_error_text_with_bytes_from_the_wire_is_spelled_out_and_counted_in_bytes() -> None:
    response = error_response(502, "upstream failure: \x1b[2J größer")
    assert response.body.decode() == r"upstream failure: \x1b[2J größer"
    assert headers(response)["content-length"] == str(len(response.body))


@pytest.mark.parametrize(
    ("close", "head_only", "expected"),
    [
        (False, False, b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nwrong"),
        (
            True,
            False,
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n"
            b"connection: close\r\n\r\nwrong",
        ),
        (False, True, b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n"),
    ],
    ids=["kept alive", "closing", "HEAD has no body but its length"],
)
def test_the_bytes_on_the_wire(close: bool, head_only: bool, expected: bytes) -> None:
    assert wire(error_response(400, "wrong"), close=close, head_only=head_only) == expected


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize(
    "verdict",
    [
        pytest.param(blocked("not_allowed"), id="a block"),
        pytest.param(blocked("her own words"), id="a decider's words"),
        pytest.param(blocked(BlockReason.PROXY_DISABLED, DecisionSource.PROXY_STATE), id="a disabled proxy"),
        pytest.param(Unresolved(ID, request("no-such.test:443"), (), ""), id="an unresolved name"),
        pytest.param(Unavailable(ID, request("no-such.test:443")), id="a broken configuration"),
    ],
)
def test_the_fast_connect_refusal_is_the_ordinary_one(verdict: Blocked | Unresolved | Unavailable, close: bool) -> None:
    expected = wire(connect_response(verdict), close=close)
    assert connect_refusal(verdict, close=close) == expected
    assert connect_refusal(verdict, close=close) == expected  # from the cache
