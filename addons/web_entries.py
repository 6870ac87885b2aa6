"""What mitmweb shows of decisions: blocks are marked, tunnels are one entry with their size, never their content.

The comment of an entry says why, and stands in the list: nobody should have to open an entry to find out. The list
shows some sixteen characters of it, so the reason, or the size, comes first.
"""

from __future__ import annotations

import time
from collections import deque

from mitmproxy import connection, ctx, http
from mitmproxy.addonmanager import Loader
from mitmproxy.addons.view import View

from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.decision import (
    Blocked,
    BlockReason,
    DecisionSource,
    HttpUse,
    NetworkPolicyRequest,
    NetworkProtocol,
    Tunnel,
)
from codex_network_proxy.policy.responses import BlockResponse, connect_response, error_code
from codex_network_proxy.policy.text import printable

from .handover import TunnelReport

BLOCK_MARKER = ":no_entry:"

ENTRIES = 2_000
"""Tunnels, open or not, and blocks of tunnels that are shown. Any client causes them, and the engine drops none."""

COLUMNS = ("tls", "path", "method", "status", "comment", "size", "time")
"""mitmweb's own, but the comment in place of the icon of a content type."""

_METHODS = {
    NetworkProtocol.HTTP: b"CONNECT",
    NetworkProtocol.HTTPS_CONNECT: b"CONNECT",
    NetworkProtocol.SOCKS5_TCP: b"SOCKS5",
    NetworkProtocol.SOCKS5_UDP: b"SOCKS5-UDP",
}
"""What the list shows in place of a method. SOCKS5 has none; so a person sees which door it was."""

_SOCKS = (NetworkProtocol.SOCKS5_TCP, NetworkProtocol.SOCKS5_UDP)

_WHY: dict[str, str] = {
    BlockReason.NOT_ALLOWED: "no entry of allowed_domains covers {target}",
    BlockReason.NOT_ALLOWED_LOCAL: "{host} is a local or private address, or resolves to one",
    BlockReason.DENIED: "denied_domains covers {target}",
    BlockReason.METHOD_NOT_ALLOWED: "limited mode passes only GET, HEAD and OPTIONS, without body or upgrade",
    BlockReason.MITM_REQUIRED: "limited mode and mitm_hooks need mitm = true",
    BlockReason.MITM_HOOK_DENIED: "no mitm_hooks entry of {host} matches this request",
    BlockReason.PROXY_DISABLED: "enabled is false",
    BlockReason.UNIX_SOCKET_UNSUPPORTED: "no unix sockets on this platform",
}


def mark(flow: http.HTTPFlow, comment: str) -> None:
    """Marks a flow as blocked: the filter `~marked` lists exactly the blocks."""
    flow.marked = BLOCK_MARKER
    flow.comment = comment


def describe_block(verdict: Blocked) -> str:
    """Why, in one line, for the person at mitmweb: the reason, the rule, and what to look for in the log."""
    ruling = verdict.ruling
    rule = f", rule {ruling.rule}" if ruling.rule else ""
    code = error_code(verdict) or "proxy disabled"
    return f"{printable(ruling.reason, 80)}: {_why(verdict)}{rule} ({code}, id {verdict.request_id})"


def _why(verdict: Blocked) -> str:
    if verdict.ruling.source is DecisionSource.DECIDER:
        return "said the decider"
    use = verdict.request.use
    if verdict.reason == BlockReason.NOT_ALLOWED and verdict.request.socket_path is not None:
        return "no entry of allow_unix_sockets is this file"
    if verdict.reason == BlockReason.MITM_REQUIRED and isinstance(use, HttpUse) and not use.secure:
        return "a host with mitm_hooks is reached over https only"
    if verdict.reason == BlockReason.MITM_REQUIRED and verdict.request.protocol is NetworkProtocol.SOCKS5_UDP:
        return "a host with mitm_hooks is not reached over UDP"
    if verdict.reason == BlockReason.METHOD_NOT_ALLOWED and verdict.request.protocol in _SOCKS:
        return "limited mode passes no SOCKS5"
    words = _WHY.get(verdict.reason, "a safety check failed, see the log")
    return words.format(host=verdict.request.host, target=verdict.request.target)


class WebEntries:
    """Puts into the view what the engine does not show by itself: relayed tunnels, and the blocks of tunnels.

    Beyond `limit` of them the oldest makes room.
    """

    name = "codex-web-entries"

    def __init__(self, limit: int = ENTRIES) -> None:
        self._limit = limit
        self._shown: deque[tuple[str, http.HTTPFlow]] = deque()
        self._open: dict[str, http.HTTPFlow] = {}

    def load(self, _: Loader) -> None:
        """Puts the comment into mitmweb's list, unless the user chose columns."""
        if "web_columns" in ctx.options and not ctx.options.has_changed("web_columns"):
            ctx.options.update(web_columns=COLUMNS)

    def block_seen(self, verdict: Blocked, _: BlockedRequest) -> None:
        """A block of a tunnel becomes an entry; a blocked request is a flow of the engine and is there already."""
        view = shown_flows()
        if view is None or not isinstance(verdict.request.use, Tunnel):
            return
        flow = _connect_flow(verdict.request, connect_response(verdict), time.time())
        mark(flow, describe_block(verdict))
        self._show(view, verdict.request_id, flow)

    def tunnel_opened(self, report: TunnelReport) -> None:
        view = shown_flows()
        if view is None:
            return
        answer = BlockResponse(200, "Connection established", (), b"")
        flow = _connect_flow(report.verdict.request, answer, report.started)
        flow.comment = f"tunnel open, {_way(report)}"
        self._open[report.verdict.request_id] = flow
        self._show(view, report.verdict.request_id, flow)

    def tunnel_closed(self, report: TunnelReport) -> None:
        view, flow = shown_flows(), self._open.pop(report.verdict.request_id, None)
        if view is None or flow is None:
            return
        ended = report.ended or report.started
        flow.comment = (
            f"tunnel {report.bytes_down:,} bytes down, {report.bytes_up:,} bytes up, "
            f"{ended - report.started:.1f} s, {_way(report)}"
        )
        assert flow.response
        flow.response.timestamp_end = flow.client_conn.timestamp_end = ended
        view.update([flow])

    def _show(self, view: View, request_id: str, flow: http.HTTPFlow) -> None:
        self._shown.append((request_id, flow))
        view.add([flow])
        if len(self._shown) > self._limit:
            oldest, gone = self._shown.popleft()
            self._open.pop(oldest, None)
            view.remove([gone])


def _way(report: TunnelReport) -> str:
    return f"relayed unread to {report.peer} (id {report.verdict.request_id})"


def shown_flows() -> View | None:
    """What mitmweb shows; `None` when there is no mitmweb."""
    view = ctx.master.addons.get("view")
    # An empty view is falsy, so the first entry would get lost with a plain truth test.
    return view if isinstance(view, View) else None


def entry_of[Entry: http.HTTPFlow](kind: type[Entry], request: NetworkPolicyRequest, started: float) -> Entry:
    """A flow that stands for a tunnel, without an answer."""
    host, _, port = (request.client_address or "unknown:0").rpartition(":")
    client = connection.Client(peername=(host.strip("[]"), int(port)), sockname=("", 0), timestamp_start=started)
    flow = kind(client, connection.Server(address=(request.host, request.port)))
    # A tunnel has no scheme; mitmweb would show `://host:443`.
    over_tcp = b"https" if request.port == 443 else b"tcp"
    scheme = b"udp" if request.protocol is NetworkProtocol.SOCKS5_UDP else over_tcp
    flow.request = http.Request(
        request.host, request.port, _METHODS[request.protocol], scheme, str(request.target).encode(), b"", b"HTTP/1.1",
        http.Headers(), b"", None, started, started,
    )  # fmt: skip
    return flow


def _connect_flow(request: NetworkPolicyRequest, answer: BlockResponse, started: float) -> http.HTTPFlow:
    flow = entry_of(http.HTTPFlow, request, started)
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    flow.response = http.Response(
        b"HTTP/1.1", answer.status, answer.reason_phrase.encode(), http.Headers(fields), answer.body, None,
        started, started,
    )  # fmt: skip
    return flow
