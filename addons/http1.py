"""HTTP/1 towards the client, made strict: heads as at the door, limits for every request, plain-text errors."""

from __future__ import annotations

from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpEvent,
    ReceiveHttp,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._http1 import Http1Server

from codex_network_proxy.policy.responses import wire
from codex_network_proxy.socks.listener import address_text

from .blocked import DISCARD_LIMIT
from .decision_log import log_bad_head
from .door_answers import bad_head_response
from .http1_bodies import MALFORMED, StrictBodies
from .http1_messages import body_reader, opens_pipe, read_request, request_size, response_head, wants_close
from .http_head import HEAD_LIMIT, BadHead, check_incomplete, find_head_end
from .sessions import session_of
from .upstream_errors import client_text

HEAD_DEADLINE = 10.0
"""Seconds from the first byte of a request head to its last."""

LINGER = 2.0
"""Seconds that a client gets to read our last answer while it may still be sending."""


class PolicedHttp1Server(StrictBodies, Http1Server):
    """One client connection: a request at a time, each with one reading and one answer."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._timer: commands.RequestWakeup | None = None
        self._skipped_line = False
        self._closing = False
        self._lingered = 0

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Wakeup):
            yield from self._on_timer(event)
        else:
            yield from super()._handle_event(event)

    def must_wait(self) -> bool:
        """A client that pipelines without reading answers has to wait as well."""
        return super().must_wait() or (self.state == self.wait and len(self.buf) > HEAD_LIMIT)

    def _on_timer(self, event: events.Wakeup) -> layer.CommandGenerator[None]:
        if event.command is not self._timer:
            return
        if self.state == self._linger:
            yield from self.cut()
        elif self.state == self.read_headers and self.buf:
            yield from self._refuse(BadHead(408, "request head timeout"))

    # Requests

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Reads the next head by our own rules alone; the engine's more lenient parser sees none."""
        if isinstance(event, events.ConnectionClosed):
            yield from self.cut()
            return
        self._skip_empty_line()
        raw = bytes(self.buf)
        end = find_head_end(raw)
        try:
            if end is None:
                check_incomplete(raw)
                yield from self._await_rest()
                return
            self.request = read_request(raw[:end], inner=self.context.client.tls_established)
        except BadHead as error:
            log_bad_head(error, address_text(self.conn.peername) if self.conn.peername else None)
            yield from self._refuse(error)
            return
        self.buf.maybe_extract_at_most(end)
        yield from self._begin(self.request)

    def _skip_empty_line(self) -> None:
        """One empty line before a request is tolerated (RFC 9112 section 2.2)."""
        if not self._skipped_line and bytes(self.buf).startswith(b"\r\n"):
            self.buf.maybe_extract_at_most(2)
            self._skipped_line = True

    def _await_rest(self) -> layer.CommandGenerator[None]:
        if self.buf and self._timer is None:
            self._timer = commands.RequestWakeup(HEAD_DEADLINE)
            yield self._timer

    def _begin(self, request: http.Request) -> layer.CommandGenerator[None]:
        self._timer, self._skipped_line = None, False
        # The chain strips `connection` from the very fields that the flow shows; here it still stands.
        self._closing = wants_close(request.data.http_version, request.headers)
        size = request_size(request)
        yield ReceiveHttp(RequestHeaders(self.stream_id, request, size == 0))
        if self.state == self.read_headers:
            self.body_reader = body_reader(size)
            self.state = self.read_body
            yield from self.state(events.DataReceived(self.conn, b""))

    def _end_of_body(self) -> layer.CommandGenerator[None]:
        assert self.request
        if self.request.data.method != b"CONNECT":
            yield ReceiveHttp(RequestEndOfMessage(self.stream_id))
        yield from self.mark_done(request=True)

    def bad_body(self) -> layer.CommandGenerator[None]:
        """Nobody can tell where the next request begins: the exchange ends here."""
        answered = self.response is not None
        error = RequestProtocolError(self.stream_id, MALFORMED, ErrorCode.GENERIC_CLIENT_ERROR)
        if self.conn.state & ConnectionState.CAN_READ and not answered:
            yield from self._refuse(BadHead(400, MALFORMED))
        else:
            yield from self.cut()
        yield ReceiveHttp(error)

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        """After both halves: a pipe, the end, or the next request."""
        self.request_done |= request
        self.response_done |= response
        if not self.request_done:
            return
        if not self.response_done:
            self.state = self.wait
            return
        assert self.request
        assert self.response
        if opens_pipe(self.request, self.response):
            yield from self.make_pipe()
        elif self._closing:
            yield from self._end()
        else:
            self.request_done = self.response_done = False
            self.request = self.response = None
            self.stream_id += 2
            self.state = self.read_headers
            if self.buf:
                self._behind_another(True)
                yield from self.state(events.DataReceived(self.conn, b""))
                self._behind_another(False)

    def _behind_another(self, on: bool) -> None:
        if session := session_of(self.context.client.id):
            session.unwinds = on

    # Answers

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if event.stream_id != self.stream_id or self.state in (self._linger, self.done):
            return  # late news of an exchange that is over
        match event:
            case ResponseHeaders():
                yield from self._send_head(event)
            case ResponseData():
                if data := self._framing.wire(event.data):
                    yield commands.SendData(self.conn, data)
            case ResponseEndOfMessage():
                if self._framing.end:
                    yield commands.SendData(self.conn, self._framing.end)
                yield from self.mark_done(response=True)
            case ResponseProtocolError():
                yield from self._send_error(event)
            case ResponseTrailers():
                pass  # the engine cannot carry them in HTTP/1
            case _:
                raise AssertionError(f"unexpected event {type(event).__name__}")

    def _send_head(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        assert self.request
        response = event.response
        interim = 100 <= response.status_code < 200 and response.status_code != 101
        if interim and self.request.data.http_version == b"HTTP/1.0":
            return
        if not interim:
            self.response = response
            self._closing = self._closing or self._must_close_early()
        head = response_head(self.request, response, end_stream=event.end_stream, close=self._closing and not interim)
        self._framing, self._closing = head.framing, self._closing or head.ends
        yield commands.SendData(self.conn, head.data)

    def _must_close_early(self) -> bool:
        """An answer that overtakes its request: waiting for a body that is long or endless is not worth it."""
        if self.request_done or self.request is None:
            return False
        size = request_size(self.request)
        return size is None or size > DISCARD_LIMIT

    def _send_error(self, event: ResponseProtocolError) -> layer.CommandGenerator[None]:
        if not self.conn.state & ConnectionState.CAN_WRITE:
            return
        status = event.code.http_status_code()
        if self.response is None and status is not None:
            yield from self._refuse(BadHead(status, client_text(status, event.message)))
        elif self.response_done and self.state != self.passthrough:
            yield from self._end()
        else:
            yield from self.cut()  # half an answer must not look whole

    def _refuse(self, error: BadHead) -> layer.CommandGenerator[None]:
        """One clean answer, then the end of the connection."""
        head_only = self.request is not None and self.request.data.method == b"HEAD"
        yield commands.SendData(self.conn, wire(bad_head_response(error), close=True, head_only=head_only))
        yield from self._end()

    # The end

    def _end(self) -> layer.CommandGenerator[None]:
        """Closes our half, and the rest when the client has closed its own, so that the answer is not lost."""
        if self.conn.state is not ConnectionState.OPEN:
            yield from self.cut()
            return
        yield commands.CloseTcpConnection(self.conn, half_close=True)
        self.state = self._linger
        self._timer = commands.RequestWakeup(LINGER)
        yield self._timer
        self.buf.maybe_extract_at_most(len(self.buf))

    def _linger(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        self._lingered += len(self.buf)
        self.buf.maybe_extract_at_most(len(self.buf))
        if isinstance(event, events.ConnectionClosed) or self._lingered > DISCARD_LIMIT:
            yield from self.cut()
