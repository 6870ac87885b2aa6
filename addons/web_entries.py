"""What mitmweb shows of decisions: blocks are marked, tunnels are one entry with their size, never their content."""

from __future__ import annotations

import time

from mitmproxy import connection, ctx, http
from mitmproxy.addons.view import View

from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.decision import Blocked, NetworkPolicyRequest, Tunnel
from codex_network_proxy.policy.responses import BlockResponse, connect_response, error_code

from .handover import TunnelReport

BLOCK_MARKER = ":no_entry:"


def mark(flow: http.HTTPFlow, comment: str) -> None:
    """Marks a flow as blocked: the filter `~marked` lists exactly the blocks."""
    flow.marked = BLOCK_MARKER
    flow.comment = comment


def describe_block(verdict: Blocked) -> str:
    """Why, in one line, for the person at mitmweb: the reason, the rule, and what to look for in the log."""
    ruling = verdict.ruling
    code = error_code(verdict) or "proxy disabled"
    rule = f", rule {ruling.rule}" if ruling.rule else ""
    return f"blocked: {ruling.reason} ({code}{rule}), decided by {ruling.source}, id {verdict.request_id}"


class WebEntries:
    """Puts into the view what the engine does not show by itself: CONNECT blocks and relayed tunnels."""

    name = "codex-web-entries"

    def __init__(self) -> None:
        self._open: dict[str, http.HTTPFlow] = {}

    def block_seen(self, verdict: Blocked, _: BlockedRequest) -> None:
        """A block of a tunnel becomes an entry; a blocked request is a flow of the engine and is there already."""
        view = _view()
        if view is None or not isinstance(verdict.request.use, Tunnel):
            return
        flow = _connect_flow(verdict.request, connect_response(verdict), time.time())
        mark(flow, describe_block(verdict))
        view.add([flow])

    def tunnel_opened(self, report: TunnelReport) -> None:
        view = _view()
        if view is None:
            return
        answer = BlockResponse(200, "Connection established", (), b"")
        flow = _connect_flow(report.verdict.request, answer, report.started)
        flow.comment = f"tunnel to {report.peer}, open"
        self._open[report.verdict.request_id] = flow
        view.add([flow])

    def tunnel_closed(self, report: TunnelReport) -> None:
        view, flow = _view(), self._open.pop(report.verdict.request_id, None)
        if view is None or flow is None:
            return
        ended = report.ended or report.started
        flow.comment = (
            f"tunnel to {report.peer}: {report.bytes_up:,} bytes up, {report.bytes_down:,} bytes down, "
            f"{ended - report.started:.1f} s"
        )
        assert flow.response
        flow.response.timestamp_end = flow.client_conn.timestamp_end = ended
        view.update([flow])


def _view() -> View | None:
    view = ctx.master.addons.get("view")
    # An empty view is falsy, so the first entry would get lost with a plain truth test.
    return view if isinstance(view, View) else None


def _connect_flow(request: NetworkPolicyRequest, answer: BlockResponse, started: float) -> http.HTTPFlow:
    host, _, port = (request.client_address or "unknown:0").rpartition(":")
    client = connection.Client(peername=(host.strip("[]"), int(port)), sockname=("", 0), timestamp_start=started)
    server = connection.Server(address=(request.host, request.port))
    flow = http.HTTPFlow(client, server)
    flow.request = http.Request(
        request.host, request.port, b"CONNECT", b"", str(request.target).encode(), b"", b"HTTP/1.1",
        http.Headers(), b"", None, started, started,
    )  # fmt: skip
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    flow.response = http.Response(
        b"HTTP/1.1", answer.status, answer.reason_phrase.encode(), http.Headers(fields), answer.body, None,
        started, started,
    )  # fmt: skip
    return flow
