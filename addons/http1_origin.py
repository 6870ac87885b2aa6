"""HTTP/1 towards the origin, made strict: bounded heads, one answer for each request, every body with its length."""

from __future__ import annotations

from collections.abc import Sequence

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpEvent,
    ReceiveHttp,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client

from .http1_bodies import MALFORMED, StrictBodies
from .http1_messages import body_reader, read_response, request_head, response_size, says, wants_close
from .http_head import HEAD_LIMIT
from .secret_edits import SecretHead
from .sessions import session_of
from .upstream_connect import NEEDS_CREDENTIALS, WRONG_CREDENTIALS
from .upstream_forward import ProxyHop

INTERIM_LIMIT = 16
"""Interim answers (1xx) that an origin may send before its answer."""

CLOSED = "the origin closed the connection"
MALFORMED_HEAD = "the origin sent no valid HTTP response"
ENDLESS_HEAD = "the origin's response head is too large"


class PolicedHttp1Client(StrictBodies, Http1Client):
    """One connection to an origin: a request at a time."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._closing = False
        self._interim = 0
        self._size: int | None = None

    # Requests

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        match event:
            case RequestProtocolError():
                yield from self.cut()
            case RequestHeaders():
                yield from self._send_head(event)
            case RequestData():
                if data := self._framing.wire(event.data):
                    yield commands.SendData(self.conn, data)
            case RequestEndOfMessage():
                if self._framing.end:
                    yield commands.SendData(self.conn, self._framing.end)
                yield from self.mark_done(request=True)
            case RequestTrailers():
                pass
            case _:
                raise AssertionError(f"unexpected event {type(event).__name__}")

    def _send_head(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        assert self.stream_id is None
        self.stream_id = event.stream_id
        # What stays here for the time of the exchange holds no secret.
        self.request = request = event.shown if isinstance(event, SecretHead) else event.request
        head = request_head(event.request, end_stream=event.end_stream, hop=self._hop())
        self._framing, self._interim = head.framing, 0
        # One request for each connection if the client speaks HTTP/2: streams do not wait for each other.
        self._closing = request.is_http2 or request.data.http_version == b"HTTP/1.0"
        yield commands.SendData(self.conn, head.data)

    def _hop(self) -> ProxyHop | None:
        """How an upstream proxy wants requests, where one is at the other end."""
        session = session_of(self.context.client.id)
        return session.forwarding.get(self.conn.id) if session else None

    # Answers

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Reads the next head; an origin that speaks unasked is cut."""
        if isinstance(event, events.ConnectionClosed) or self.request is None:
            yield from self._give_up(MALFORMED_HEAD if self.buf else CLOSED)
            return
        response = None
        while response is None:
            lines = self.buf.maybe_extract_lines()
            if lines is None:
                if len(self.buf) > HEAD_LIMIT:
                    yield from self._give_up(ENDLESS_HEAD)
                return
            try:
                response = self._final_answer(self.request, [bytes(line) for line in lines])
            except ValueError:
                yield from self._give_up(MALFORMED_HEAD)
                return
        if response.status_code == 407 and (hop := self._hop()):
            # It is about our credentials, and none of the client's business.
            yield from self._give_up(WRONG_CREDENTIALS if hop.authorization else NEEDS_CREDENTIALS)
            return
        yield from self._begin(response)

    def _final_answer(self, request: http.Request, lines: Sequence[bytes]) -> http.Response | None:
        """The answer of this head; `None` for 100, 102 and 103, which come before it (RFC 9110 section 15.2)."""
        response = read_response(lines)
        self._size = response_size(request, response)
        if not 100 <= response.status_code < 200 or response.status_code == 101:
            return response
        self._interim += 1
        if self._interim > INTERIM_LIMIT:
            raise ValueError("too many interim answers")
        return None

    def _begin(self, response: http.Response) -> layer.CommandGenerator[None]:
        assert self.stream_id is not None
        self.response = response
        size = self._size
        # The chain strips `connection` from the very fields that the flow shows; here it still stands.
        self._closing = self._closing or size == -1 or self._ends_after(response)
        self.body_reader = body_reader(size)
        self.state = self.read_body
        yield ReceiveHttp(ResponseHeaders(self.stream_id, response, size == 0))
        if self.state == self.read_body:
            yield from self.state(events.DataReceived(self.conn, b""))

    def _ends_after(self, response: http.Response) -> bool:
        if wants_close(response.data.http_version, response.headers):
            return True
        # Some upstream proxies close after each answer without a word: the next request would run into that.
        return self._hop() is not None and not says(response.headers, "keep-alive")

    def _end_of_body(self) -> layer.CommandGenerator[None]:
        assert self.stream_id is not None
        yield ReceiveHttp(ResponseEndOfMessage(self.stream_id))
        yield from self.mark_done(response=True)

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        """After both halves: a pipe, the end, or the next request."""
        self.request_done |= request
        self.response_done |= response
        if not (self.request_done and self.response_done):
            if self.response_done:
                self.state = self._overtaken
            return
        assert self.response
        if self.response.status_code == 101:
            yield from self.make_pipe()
        elif self._closing or self.buf:  # what comes behind an answer belongs to no request
            yield from self.cut()
        else:
            self.request_done = self.response_done = False
            self.request = self.response = self.stream_id = None
            self.state = self.read_headers

    def _overtaken(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """The answer was complete before the request was: what the origin does now ends the exchange."""
        yield from self._give_up(CLOSED)

    def bad_body(self) -> layer.CommandGenerator[None]:
        yield from self._give_up(MALFORMED)

    def _give_up(self, text: str) -> layer.CommandGenerator[None]:
        if self._hop():
            text = text.replace("the origin", "the upstream proxy", 1)
        yield from self.cut()
        if self.stream_id is not None:
            yield ReceiveHttp(ResponseProtocolError(self.stream_id, text, ErrorCode.GENERIC_SERVER_ERROR))
