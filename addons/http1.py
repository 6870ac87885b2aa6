"""HTTP/1 in the engine, made strict: heads are checked as at the door, limits hold for every request."""

from __future__ import annotations

from typing import Any

import h11
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpEvent,
    ReceiveHttp,
    RequestTrailers,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server, TBodyReader

from codex_network_proxy.policy.responses import error_response, wire

from .http_head import HEAD_LIMIT, BadHead, check_request_head, find_head_end
from .upstream_errors import client_text

HEAD_DEADLINE = 10.0
"""Seconds from the first byte of a request head to its last."""


class _WithoutTrailers:
    """Reads a body and drops its trailers: the engine cannot carry them in HTTP/1, and nobody judged them."""

    def __init__(self, reader: TBodyReader) -> None:
        self._reader = reader

    def __call__(self, buffer: Any) -> Any:
        return self._strip(self._reader(buffer))

    def read_eof(self) -> Any:
        return self._strip(self._reader.read_eof())

    @staticmethod
    def _strip(event: Any) -> Any:
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event


class _BodyReader:
    """A descriptor: whatever reader the engine sets, its trailers are dropped."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return instance.__dict__["_body_reader"]

    def __set__(self, instance: Any, reader: TBodyReader) -> None:
        instance.__dict__["_body_reader"] = _WithoutTrailers(reader)


class PolicedHttp1Server(Http1Server):
    """Towards the client: strict heads, 64 KiB, a deadline, and plain-text errors."""

    body_reader = _BodyReader()

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._head_timer: commands.RequestWakeup | None = None

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Wakeup):
            yield from self._on_deadline(event)
        else:
            yield from super()._handle_event(event)

    def _on_deadline(self, event: events.Wakeup) -> layer.CommandGenerator[None]:
        if event.command is self._head_timer and self.state == self.read_headers and self.buf:
            yield from self._refuse(408, "request head timeout")

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Hands only heads that pass the strict check to the engine's own, more lenient parser."""
        if isinstance(event, events.DataReceived):
            raw = bytes(self.buf)
            end = find_head_end(raw)
            if end is None:
                yield from self._wait_for_head(len(raw))
                return
            self._head_timer = None
            try:
                check_request_head(raw[:end])
            except BadHead as error:
                yield from self._refuse(error.status, error.message)
                return
        yield from super().read_headers(event)

    def _wait_for_head(self, received: int) -> layer.CommandGenerator[None]:
        if received > HEAD_LIMIT:
            yield from self._refuse(431, "request head too large")
        elif received and self._head_timer is None:
            self._head_timer = commands.RequestWakeup(HEAD_DEADLINE)
            yield self._head_timer

    def _refuse(self, status: int, text: str) -> layer.CommandGenerator[None]:
        """One clean answer, then the end of the connection: what follows a malformed head cannot be trusted."""
        yield commands.SendData(self.conn, wire(error_response(status, text), close=True))
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        match event:
            case ResponseTrailers():
                pass
            case ResponseProtocolError() if not self.response and event.code.http_status_code() is not None:
                status = event.code.http_status_code()
                assert status is not None
                yield commands.SendData(
                    self.conn, wire(error_response(status, client_text(status, event.message)), close=True)
                )
                yield commands.CloseConnection(self.conn)
            case _:
                yield from super().send(event)


class PolicedHttp1Client(Http1Client):
    """Towards the origin: bounded heads, interim answers skipped, no trailers."""

    body_reader = _BodyReader()

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if not isinstance(event, RequestTrailers):
            yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived) and self.request:
            self._skip_interim_answers()
            if find_head_end(bytes(self.buf)) is None and len(self.buf) > HEAD_LIMIT:
                yield from self._fail("the origin's response head is too large")
                return
        yield from super().read_headers(event)

    def _skip_interim_answers(self) -> None:
        """100, 102 and 103 come before the answer; the engine would take them for it (RFC 9110 section 15.2)."""
        while (end := find_head_end(raw := bytes(self.buf))) is not None:
            if not (raw.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")) and raw[9:12] != b"101"):
                return
            self.buf.maybe_extract_at_most(end)

    def _fail(self, text: str) -> layer.CommandGenerator[None]:
        assert self.stream_id is not None
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(ResponseProtocolError(self.stream_id, text, ErrorCode.GENERIC_SERVER_ERROR))
        self.state = self.done
