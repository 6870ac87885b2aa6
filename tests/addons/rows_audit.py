"""The situations of spec B10.3 and B11, and the events that each leaves at each door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from codex_network_proxy.policy.decision import (
    HttpUse,
    NetworkDecision,
    NetworkPolicyRequest,
    NetworkProtocol,
    Tunnel,
    Use,
)
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.unix_sockets import UNIX_SOCKET

CLIENT = "127.0.0.1:50001"
LISTED, UNLISTED = "/run/listed.sock", "/run/other.sock"

Told = tuple[str, str, str, str, bool]
"""Scope, decision, source, reason and override of one event."""


@dataclass(frozen=True, slots=True)
class Door:
    """How requests look that come in here. `label` is what the buffer calls the door."""

    name: str
    protocol: NetworkProtocol
    label: str
    method: str | None
    inner: bool = False

    def request(self, host: str, method: str | None = None, path: str = "/") -> NetworkPolicyRequest:
        method = method or self.method
        if self is UNIX:
            return NetworkPolicyRequest(
                self.protocol, UNIX_SOCKET, HttpUse(method or ""), method, CLIENT, socket_path=host
            )
        use: Use = HttpUse(method or "", self.inner, path) if self.inner or self is PLAIN else Tunnel()
        return NetworkPolicyRequest(self.protocol, parse_endpoint(host, 443), use, method, CLIENT)


PLAIN = Door("plain HTTP", NetworkProtocol.HTTP, "http", "GET")
CONNECT = Door("CONNECT", NetworkProtocol.HTTPS_CONNECT, "http-connect", "CONNECT")
INNER = Door("inside a CONNECT tunnel", NetworkProtocol.HTTPS_CONNECT, "https", "GET", inner=True)
SOCKS = Door("SOCKS5 TCP", NetworkProtocol.SOCKS5_TCP, "socks5", None)
SOCKS_INNER = Door("inside a SOCKS5 tunnel", NetworkProtocol.SOCKS5_TCP, "https", "GET", inner=True)
UDP = Door("SOCKS5 UDP", NetworkProtocol.SOCKS5_UDP, "socks5-udp", None)
UNIX = Door("a unix socket", NetworkProtocol.HTTP, "http", "GET")

DOORS = (PLAIN, CONNECT, INNER, SOCKS, SOCKS_INNER, UDP)
INSIDE = (INNER, SOCKS_INNER)
TUNNELS = (CONNECT, SOCKS)


ALLOW: Told = ("domain", "allow", "baseline_policy", "allow", False)
HOOK_ALLOW: Told = ("non_domain", "allow", "mode_guard", "allow", False)


def denied(reason: str) -> list[Told]:
    return [("domain", "deny", "baseline_policy", reason, False)]


def guarded(reason: str) -> list[Told]:
    """The host passes, the mode or the hooks refuse: two events."""
    return [ALLOW, ("non_domain", "deny", "mode_guard", reason, False)]


LIMITED, MITM = 'mode = "limited"', "mitm = true"


@dataclass(frozen=True, slots=True)
class Row:
    situation: str
    doors: Sequence[Door]
    events: Sequence[Told]
    host: str = "allowed.test"
    lines: Sequence[str] = (MITM,)
    answer: NetworkDecision | Exception | None = None
    method: str | None = None
    path: str = "/"
    platform: bool = True


def by_decider(decision: str, reason: str, override: bool = False) -> list[Told]:
    return [("domain", decision, "decider", reason, override)]


ROWS = [
    Row("host allowed by the list", DOORS, [ALLOW]),
    Row(
        "allowlist miss, the decider allows",
        DOORS,
        by_decider("allow", "not_allowed", override=True),
        "other.test",
        answer=NetworkDecision.allow(),
    ),
    Row("allowlist miss, no decider", DOORS, denied("not_allowed"), "other.test"),
    Row(
        "the decider denies",
        DOORS,
        by_decider("deny", "too far"),
        "other.test",
        answer=NetworkDecision.deny("too far"),
    ),
    Row(
        "the decider denies without a word",
        DOORS,
        by_decider("deny", "policy_denied"),
        "other.test",
        answer=NetworkDecision.deny(),
    ),
    Row("the decider asks", DOORS, by_decider("ask", "who?"), "other.test", answer=NetworkDecision.ask("who?")),
    Row("the decider fails", DOORS, by_decider("deny", "policy_denied"), "other.test", answer=RuntimeError("a secret")),
    Row("denylisted", DOORS, denied("denied"), "denied.test", answer=NetworkDecision.allow()),
    Row("a local literal", DOORS, denied("not_allowed_local"), "10.0.0.1", answer=NetworkDecision.allow()),
    Row("a name that leads to a private address", DOORS, denied("not_allowed_local"), "local.test"),
    Row(
        "the decider allows a name that leads to a private address",
        DOORS,
        denied("not_allowed_local"),
        "local-too.test",
        answer=NetworkDecision.allow(),
    ),
    Row(
        "the proxy is disabled",
        DOORS,
        [("non_domain", "deny", "proxy_state", "proxy_disabled", False)],
        "denied.test",
        ("enabled = false",),
        NetworkDecision.allow(),
    ),
    Row("limited mode, a method that reads", (PLAIN, *INSIDE), [ALLOW], lines=(LIMITED, MITM)),
    Row(
        "limited mode, a method that writes",
        (PLAIN, *INSIDE),
        guarded("method_not_allowed"),
        lines=(LIMITED, MITM),
        method="POST",
    ),
    Row("limited mode, SOCKS", (SOCKS, UDP), guarded("method_not_allowed"), lines=(LIMITED, MITM)),
    Row("limited mode, CONNECT that can be read", (CONNECT,), [ALLOW], lines=(LIMITED, MITM)),
    Row("limited mode, CONNECT that cannot", (CONNECT,), guarded("mitm_required"), lines=(LIMITED,)),
    Row(
        "limited mode, a method that writes to a host that the decider allows",
        (PLAIN,),
        [
            ("domain", "allow", "decider", "not_allowed", True),
            ("non_domain", "deny", "mode_guard", "method_not_allowed", False),
        ],
        "other.test",
        (LIMITED,),
        NetworkDecision.allow(),
        "POST",
    ),
    Row(
        "limited mode, a method that writes to a denied host",
        (PLAIN, *INSIDE),
        denied("denied"),
        "denied.test",
        (LIMITED, MITM),
        method="POST",
    ),
    Row("a hooked host, without interception", (*TUNNELS, UDP), guarded("mitm_required"), "hooked.test", ()),
    Row("a hooked host, over UDP", (UDP,), guarded("mitm_required"), "hooked.test"),
    Row("a hooked host, in clear", (PLAIN,), guarded("mitm_required"), "hooked.test"),
    Row("a hooked host, as a tunnel to be read", TUNNELS, [ALLOW], "hooked.test"),
    Row("a hook matches", INSIDE, [ALLOW, HOOK_ALLOW], "hooked.test", method="POST", path="/ok"),
    Row("no hook matches", INSIDE, guarded("mitm_hook_denied"), "hooked.test", method="POST", path="/no"),
    Row(
        "a hook matches, limited mode refuses the method",
        INSIDE,
        [ALLOW, HOOK_ALLOW, ("non_domain", "deny", "mode_guard", "method_not_allowed", False)],
        "hooked.test",
        (LIMITED, MITM),
        method="POST",
        path="/ok",
    ),
]


ALLOWS = NetworkDecision.allow()


def at_socket(decision: str, source: str, reason: str) -> list[Told]:
    return [("non_domain", decision, source, reason, False)]


ROWS += [
    Row("allowed", (UNIX,), at_socket("allow", "proxy_state", "allow"), LISTED),
    Row(
        "not allowed",
        (UNIX,),
        at_socket("deny", "proxy_state", "not_allowed"),
        UNLISTED,
        answer=NetworkDecision.allow(),
    ),
    Row("platform", (UNIX,), at_socket("deny", "proxy_state", "unix_socket_unsupported"), LISTED, platform=False),
    Row("method", (UNIX,), at_socket("deny", "mode_guard", "method_not_allowed"), LISTED, (LIMITED,), method="POST"),
    Row("disabled", (UNIX,), at_socket("deny", "proxy_state", "proxy_disabled"), LISTED, ("enabled = false",)),
]

CASES = [pytest.param(row, door, id=f"{row.situation}: {door.name}") for row in ROWS for door in row.doors]
