"""Past requests under another policy."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.decision import Decision, DecisionSource, NetworkProtocol
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.history import History, PastRequest
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.replaying import Change, Replayed, replay

SOCKS, UDP = NetworkProtocol.SOCKS5_TCP, NetworkProtocol.SOCKS5_UDP
CONNECT, HTTP = NetworkProtocol.HTTPS_CONNECT, NetworkProtocol.HTTP
HOOK = "mitm_hooks = [{ host = 'a.test', match = { methods = ['GET'], path_prefixes = ['/'] } }]\nmitm = true"


def past(
    target: str = "a.test:443",
    protocol: NetworkProtocol = CONNECT,
    method: str | None = "CONNECT",
    reason: str = "allow",
    peer: str | None = None,
) -> PastRequest:
    decision = Decision.ALLOW if reason == "allow" else Decision.DENY
    address = None if peer is None else ip_address(peer)
    return PastRequest(
        "", protocol, parse_endpoint(target), method, decision, reason, DecisionSource.BASELINE_POLICY, peer=address
    )


def replayed(request: PastRequest, toml: str) -> Replayed:
    text = f"default_permissions = 'w'\n[permissions.w.network]\nenabled = true\n{toml}"
    policy = NetworkPolicy.compile(load_config(text, file="new.toml").settings)
    (found,) = asyncio.run(replay(History((request,)), policy))
    assert found.request is request
    return found


A = "allowed_domains = ['a.test']\n"
LIMITED = A + "mode = 'limited'\nmitm = true"


@pytest.mark.parametrize(
    ("request_", "toml", "change", "why"),
    [
        pytest.param(past(), A, Change.SAME, "", id="allowed and still allowed"),
        pytest.param(past(), "", Change.NOW_BLOCKED, "not_allowed", id="no longer on the list"),
        pytest.param(past(), A + "denied_domains = ['a.test']", Change.NOW_BLOCKED, "denied", id="now denied"),
        pytest.param(past(reason="not_allowed"), A, Change.NOW_ALLOWED, "", id="now on the list"),
        pytest.param(past(reason="not_allowed"), "", Change.SAME, "not_allowed", id="blocked and still blocked"),
        pytest.param(
            past(peer="10.0.0.1"), A, Change.NOW_BLOCKED, "not_allowed_local", id="the address of then is judged"
        ),
        pytest.param(
            past(peer="10.0.0.1"), A + "allow_local_binding = true", Change.SAME, "", id="a private address opened"
        ),
        pytest.param(
            past(protocol=HTTP, method="POST"), LIMITED, Change.NOW_BLOCKED, "method_not_allowed", id="a method"
        ),
        pytest.param(past(protocol=HTTP, method="GET"), LIMITED, Change.SAME, "", id="a method that reads"),
        pytest.param(past(method="PUT"), LIMITED, Change.NOW_BLOCKED, "method_not_allowed", id="an inner method"),
        pytest.param(
            past(protocol=SOCKS, method=None), LIMITED, Change.NOW_BLOCKED, "method_not_allowed", id="SOCKS5 in limited"
        ),
        pytest.param(past(protocol=UDP, method=None), A, Change.SAME, "", id="a datagram"),
        pytest.param(past(method="GET"), A + HOOK, Change.UNKNOWN, "a hook decides by path", id="a hook by its path"),
        pytest.param(
            past(method="POST"), A + HOOK, Change.UNKNOWN, "a hook decides by path", id="a hook that may not match"
        ),
        pytest.param(past(method="GET"), HOOK, Change.NOW_BLOCKED, "not_allowed", id="the list comes before a hook"),
        pytest.param(past("b.test:443", method="GET"), A + HOOK, Change.NOW_BLOCKED, "not_allowed", id="another host"),
    ],
)
def test_what_changes(request_: PastRequest, toml: str, change: Change, why: str) -> None:
    found = replayed(request_, toml)
    assert found.change is change
    assert found.why.startswith(why)
    assert bool(found.why) == bool(why)


def test_the_proxy_s_own_listeners_are_not_known_to_a_log() -> None:
    assert replayed(past("127.0.0.1:3128"), "allowed_domains = ['127.0.0.1']").change is Change.SAME
