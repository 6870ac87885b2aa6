"""What a blocked client must see, word for word, written down apart from the product (spec A5, B4.7)."""

from __future__ import annotations

import re

from .wire import Response

# reason -> (x-proxy-error, sentence)
BLOCKS: dict[str, tuple[str, str]] = {
    "not_allowed": (
        "blocked-by-allowlist",
        "Codex blocked this request: domain not in allowlist (this is not a denylist block).",
    ),
    "not_allowed_local": (
        "blocked-by-allowlist",
        "Codex blocked this request: local/private addresses not allowed.",
    ),
    "denied": ("blocked-by-denylist", "Codex blocked this request: domain denied by policy."),
    "method_not_allowed": (
        "blocked-by-method-policy",
        "Codex blocked this request: method not allowed in limited mode.",
    ),
    "mitm_hook_denied": (
        "blocked-by-mitm-hook",
        "Codex blocked this request: MITM hook policy denied the HTTPS request.",
    ),
    "mitm_required": (
        "blocked-by-mitm-required",
        "Codex blocked this request: MITM required to enforce HTTPS policy.",
    ),
    "policy_denied": ("blocked-by-policy", "Codex blocked this request by network policy."),
}
JSON_KEYS = ["status", "host", "reason", "decision", "source", "protocol", "port", "message", "request_id"]


def request_id(answer: Response) -> str:
    """The id that ties the answer to its audit event."""
    found = answer.get("x-proxy-request-id")
    assert found, answer.head
    assert re.fullmatch(r"[\w.-]{8,64}", found), found
    return found


def reason_of_text(answer: Response) -> str:
    """The reason behind a text block; the sentence and the code must agree."""
    for reason, (code, sentence) in BLOCKS.items():
        if answer.body == sentence.encode():
            assert answer.get("x-proxy-error") == code, answer.head
            return reason
    raise AssertionError(f"not a known sentence: {answer}")


def check_common(answer: Response, reason: str) -> None:
    code, _ = BLOCKS[reason]
    assert answer.status == 403, answer
    assert answer.get("x-proxy-error") == code, answer.head
    assert answer.phrase == f"Blocked by network policy ({code})"
    assert answer.get("content-length") == str(len(answer.body)), answer.head
    request_id(answer)


def check_text_block(answer: Response, reason: str) -> None:
    """A block of CONNECT, or inside an intercepted tunnel."""
    check_common(answer, reason)
    assert answer.get("content-type") == "text/plain"
    assert answer.body == BLOCKS[reason][1].encode()


def check_json_block(answer: Response, reason: str, host: str | None = None, port: int | None = None) -> None:
    """A block of a plain request."""
    check_common(answer, reason)
    assert answer.get("content-type") == "application/json"
    body = answer.json()
    assert list(body) == JSON_KEYS, body
    assert (body["status"], body["reason"], body["decision"]) == ("blocked", reason, "deny")
    assert (body["protocol"], body["message"]) == ("http", BLOCKS[reason][1])
    assert body["request_id"] == request_id(answer)
    assert b", " not in answer.body, "the JSON is compact"
    assert host is None or body["host"] == host
    assert port is None or body["port"] == port


def check_refusal(answer: Response, status: int = 400) -> None:
    """An answer that is no policy block: text, one line, and no code that would look like one."""
    assert answer.status == status, answer
    assert answer.get("x-proxy-error") is None, answer.head
    assert (answer.get("content-type") or "").startswith("text/plain"), answer.head
    assert "\n" not in answer.text, answer.body
