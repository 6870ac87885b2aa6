"""What mitmweb shows of tunnels: blocks are marked, relayed tunnels are one entry, and no content anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons, tflow

from codex_network_proxy.addons.handover import TunnelReport
from codex_network_proxy.addons.web_entries import ENTRIES, WebEntries, describe_block
from codex_network_proxy.policy.decision import Allowed, Blocked, HttpUse, NetworkPolicyRequest, NetworkProtocol, Tunnel
from codex_network_proxy.policy.hosts import parse_endpoint

from .engine_kit import configuration
from .flow_kit import bench


@pytest.fixture
def view() -> Iterator[View]:
    found = View()
    with taddons.context(found):
        yield found


def question(
    target: str,
    use: Tunnel | HttpUse,
    client: str | None = "127.0.0.1:5",
    protocol: NetworkProtocol = NetworkProtocol.HTTPS_CONNECT,
) -> NetworkPolicyRequest:
    return NetworkPolicyRequest(protocol, parse_endpoint(target), use, "CONNECT", client)


def decided(target: str = "denied.test:443", client: str | None = "127.0.0.1:5", use: Any = None, **more: Any) -> Any:
    with bench() as here:
        return asyncio.run(here.authority.decide(question(target, use or Tunnel(), client, **more)))


def entry(view: View) -> http.HTTPFlow:
    assert len(view) == 1
    assert isinstance(view[0], http.HTTPFlow)
    return view[0]


@pytest.mark.parametrize("client", ["127.0.0.1:5", "[::1]:5", None])
def test_a_blocked_tunnel_is_an_entry(view: View, client: str | None) -> None:
    verdict = decided(client=client)
    assert isinstance(verdict, Blocked)
    WebEntries().block_seen(verdict, None)  # type: ignore[arg-type]  # nobody looks at it
    flow = entry(view)
    assert flow.response
    assert (flow.request.method, flow.request.authority, flow.response.status_code) == (
        "CONNECT",
        "denied.test:443",
        403,
    )
    assert flow.marked == ":no_entry:"
    assert flow.comment == describe_block(verdict)
    assert flow.response.headers["x-proxy-request-id"] in flow.comment
    assert flow.client_conn.peername == {None: ("unknown", 0), "[::1]:5": ("::1", 5)}.get(client, ("127.0.0.1", 5))


@pytest.mark.parametrize(
    ("protocol", "method"),
    [
        (NetworkProtocol.HTTPS_CONNECT, "CONNECT"),
        (NetworkProtocol.SOCKS5_TCP, "SOCKS5"),
        (NetworkProtocol.SOCKS5_UDP, "SOCKS5-UDP"),
    ],
)
def test_the_method_says_which_door_it_was(view: View, protocol: NetworkProtocol, method: str) -> None:
    entries = WebEntries()
    entries.block_seen(decided(protocol=protocol), None)  # type: ignore[arg-type]  # nobody looks at it
    entries.tunnel_opened(report(decided("allowed.test:443", protocol=protocol)))
    flows = [flow for flow in view if isinstance(flow, http.HTTPFlow)]
    assert {(flow.request.method, bool(flow.marked)) for flow in flows} == {(method, True), (method, False)}


def test_a_socks_tunnel_in_limited_mode_is_described_as_what_it_is() -> None:
    with bench(configuration("limited")) as here:
        asked = question("allowed.test:443", Tunnel(), protocol=NetworkProtocol.SOCKS5_TCP)
        verdict = asyncio.run(here.authority.decide(asked))
    assert isinstance(verdict, Blocked)
    assert describe_block(verdict).startswith("method_not_allowed: limited mode passes no SOCKS5 (blocked-by-method-")


def test_a_hooked_host_over_udp_is_described_as_what_it_is() -> None:
    verdict = decided("hooked.test:443", protocol=NetworkProtocol.SOCKS5_UDP)
    assert isinstance(verdict, Blocked)
    assert describe_block(verdict).startswith("mitm_required: a host with mitm_hooks is not reached over UDP (blocked-")


@pytest.mark.parametrize(
    ("protocol", "target", "scheme"),
    [
        pytest.param(NetworkProtocol.SOCKS5_TCP, "allowed.test:443", "https", id="a tunnel to the port of HTTPS"),
        pytest.param(NetworkProtocol.SOCKS5_TCP, "allowed.test:22", "tcp", id="another tunnel"),
        pytest.param(NetworkProtocol.SOCKS5_UDP, "allowed.test:443", "udp", id="datagrams, whatever the port"),
    ],
)
def test_the_scheme_says_what_is_carried(view: View, protocol: NetworkProtocol, target: str, scheme: str) -> None:
    WebEntries().tunnel_opened(report(decided(target, protocol=protocol)))
    assert entry(view).request.scheme == scheme


def described(text: str, target: str, use: Tunnel | HttpUse) -> str:
    with bench(text) as here:
        verdict = asyncio.run(here.authority.decide(question(target, use)))
        assert isinstance(verdict, Blocked)
        return describe_block(verdict).partition(f", id {verdict.request_id})")[0]


HTTPS = HttpUse("POST", secure=True, path="/no")


@pytest.mark.parametrize(
    ("text", "target", "use", "why"),
    [
        pytest.param(
            configuration(), "denied.test:443", Tunnel(),
            "denied: denied_domains covers denied.test:443, rule denied.test (blocked-by-denylist", id="the denylist",
        ),
        pytest.param(
            configuration(), "unknown.test:443", Tunnel(),
            "not_allowed: no entry of allowed_domains covers unknown.test:443 (blocked-by-allowlist",
            id="the allowlist",
        ),
        pytest.param(
            configuration(), "hooked.test:443", HTTPS,
            "mitm_hook_denied: no mitm_hooks entry of hooked.test matches this request (blocked-by-mitm-hook",
            id="the hooks",
        ),
        pytest.param(
            configuration(), "hooked.test:80", HttpUse("GET"),
            "mitm_required: a host with mitm_hooks is reached over https only (blocked-by-mitm-required",
            id="a hooked host in clear",
        ),
        pytest.param(
            configuration("limited"), "allowed.test:80", HttpUse("POST"),
            "method_not_allowed: limited mode passes only GET, HEAD and OPTIONS, without body or upgrade "
            "(blocked-by-method-policy", id="the mode",
        ),
        pytest.param(
            configuration(lines=["enabled = false"]), "allowed.test:80", HttpUse("GET"),
            "proxy_disabled: enabled is false (proxy disabled", id="a proxy that is off",
        ),
    ],
)  # fmt: skip
def test_the_description_says_why_and_by_which_rule(text: str, target: str, use: Tunnel | HttpUse, why: str) -> None:
    assert described(text, target, use) == why


def test_a_blocked_request_is_there_already(view: View) -> None:
    verdict = decided(use=HttpUse("GET"))
    WebEntries().block_seen(verdict, None)  # type: ignore[arg-type]  # nobody looks at it
    assert len(view) == 0


def report(verdict: Allowed, up: int = 0, down: int = 0, ended: float | None = None) -> TunnelReport:
    return TunnelReport(verdict, "127.0.0.1", up, down, 100.0, ended)


def test_a_relayed_tunnel_is_one_entry_from_start_to_end(view: View) -> None:
    entries, verdict = WebEntries(), decided("allowed.test:443")
    assert isinstance(verdict, Allowed)
    entries.tunnel_opened(report(verdict))
    flow = entry(view)
    assert (flow.comment, flow.marked) == (f"tunnel open, relayed unread to 127.0.0.1 (id {verdict.request_id})", "")
    entries.tunnel_closed(report(verdict, 1234567, 89, 102.5))
    assert entry(view) is flow
    assert flow.comment.startswith("tunnel 89 bytes down, 1,234,567 bytes up, 2.5 s, relayed unread to 127.0.0.1")
    assert flow.response
    assert flow.response.timestamp_end == 102.5
    entries.tunnel_closed(report(verdict, 1, 1, 200.0))
    assert "2.5 s" in flow.comment, "it ends once"


def test_without_a_view_nothing_is_kept() -> None:
    with taddons.context():
        entries, verdict = WebEntries(), decided("allowed.test:443")
        entries.tunnel_opened(report(verdict))
        entries.tunnel_closed(report(verdict, ended=101.0))
        entries.block_seen(decided(), None)  # type: ignore[arg-type]  # nobody looks at it
        assert not entries._open


def test_the_oldest_entry_makes_room_and_requests_stay(view: View) -> None:
    entries, request = WebEntries(limit=3), tflow.tflow(resp=True)
    view.add([request])
    first, *tunnels = [decided("allowed.test:443") for _ in range(3)]
    entries.tunnel_opened(report(first))
    for verdict in tunnels:
        entries.tunnel_opened(report(verdict))
    entries.block_seen(decided(), None)  # type: ignore[arg-type]  # nobody looks at it
    assert [flow.comment for flow in view if flow is not request and not flow.marked] == [
        f"tunnel open, relayed unread to 127.0.0.1 (id {verdict.request_id})" for verdict in tunnels
    ]
    assert request in view
    assert [flow.comment[:6] for flow in view if flow.marked] == ["denied"]
    entries.tunnel_closed(report(first, ended=101.0))
    assert (len(view), len(entries._open)) == (4, 2), "who is gone does not come back"


def test_a_flood_of_decisions_takes_so_many_entries_and_no_more(view: View) -> None:
    entries, denied, allowed = WebEntries(), decided(), decided("allowed.test:443")
    for number in range(ENTRIES):
        entries.block_seen(denied, None)  # type: ignore[arg-type]  # nobody looks at it
        verdict = replace(allowed, request_id=str(number))
        entries.tunnel_opened(report(verdict))
        if number % 2:
            entries.tunnel_closed(report(verdict, ended=101.0))
    assert (len(view), view.store_count(), len(entries._shown)) == (ENTRIES, ENTRIES, ENTRIES)
    assert len(entries._open) == ENTRIES // 4


def test_entries_that_a_person_has_cleared_are_no_trouble(view: View) -> None:
    entries = WebEntries(limit=1)
    for _ in range(2):
        entries.tunnel_opened(report(decided("allowed.test:443")))
        view.clear()
    entries.block_seen(decided(), None)  # type: ignore[arg-type]  # nobody looks at it
    assert entry(view).marked
