"""HTTP/2 on both sides of the engine: streams are refused one by one, and slow readers slow their sources down."""

from __future__ import annotations

from collections import defaultdict

import h2.config
import h2.events
from h2.errors import ErrorCodes
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import ReceiveHttp, RequestData, RequestHeaders, ResponseProtocolError
from mitmproxy.proxy.layers.http._http2 import Http2Client, Http2Connection, Http2Server, StreamState

from codex_network_proxy.policy.responses import BlockResponse, error_response

from .door_answers import bad_head_response
from .flow_control import PILE_LIMIT, Jam, Throttle
from .http2_messages import are_good_trailers, read_request
from .http_head import BadHead
from .upstream_errors import client_text

CLIENT_WINDOW = 1 << 20
"""Bytes of one stream that a client may send before we have passed them on."""

ORIGIN_WINDOW = 4 << 20
"""The same for an origin, which is further away: it bounds how fast one stream can be."""


class PacedHttp2(Http2Connection):
    """Windows that open only as fast as the other side of the stream takes the data.

    The engine's own opens them without an end and buffers what it cannot pass on.
    """

    window = CLIENT_WINDOW
    towards_client: bool

    def _pace(self) -> None:
        """To be called once, before the connection starts."""
        self.h2_conn.local_settings.initial_window_size = self.window
        self.h2_conn.local_settings.acknowledge()
        self._throttled: set[int] = set()
        self._unacknowledged: dict[int, int] = defaultdict(int)
        self._jammed: set[int] = set()

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, Throttle):
            yield from self._throttle(event)
        else:
            yield from super()._handle_event(event)
            yield from self._report_jams()

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        if not isinstance(event, h2.events.DataReceived) or event.stream_id not in self._throttled:
            return (yield from super().handle_h2_event(event))
        if event.data:
            yield ReceiveHttp(self.ReceiveData(event.stream_id, event.data))
        self._unacknowledged[event.stream_id] += event.flow_controlled_length or 0
        return False

    def _throttle(self, event: Throttle) -> layer.CommandGenerator[None]:
        number = self.wire_id(event.stream_id)
        if number is None:
            return
        if event.on:
            self._throttled.add(number)
            return
        self._throttled.discard(number)
        if length := self._unacknowledged.pop(number, 0):
            self.h2_conn.acknowledge_received_data(length, number)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())

    def _report_jams(self) -> layer.CommandGenerator[None]:
        for stream_id in self._jammed | self.piles():
            size = self.pile(stream_id)
            if stream_id not in self._jammed and size > PILE_LIMIT:
                self._jammed.add(stream_id)
                yield ReceiveHttp(Jam(stream_id, self.towards_client, True))
            elif stream_id in self._jammed and size <= PILE_LIMIT // 2:
                self._jammed.discard(stream_id)
                yield ReceiveHttp(Jam(stream_id, self.towards_client, False))

    def piles(self) -> set[int]:
        """The streams of which something waits for the peer, by the numbers that the client gave them."""
        return set(self.h2_conn.stream_buffers)

    def pile(self, stream_id: int) -> int:
        """How many bytes of the stream wait for the peer."""
        number = self.wire_id(stream_id)
        waiting = () if number is None else self.h2_conn.stream_buffers.get(number, ())
        return sum(len(item.data) for item in waiting)

    def wire_id(self, stream_id: int) -> int | None:
        """The stream's number on this connection."""
        return stream_id


class PolicedHttp2Server(PacedHttp2, Http2Server):
    """Towards the client: strict heads, and failures told in plain text as on every other door."""

    # Whole heads are checked by `read_request`, so that one bad stream does not end the others.
    h2_conf = h2.config.H2Configuration(**{**Http2Connection.h2_conf_defaults, "client_side": False})
    towards_client = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.h2_conf.validate_inbound_headers = False
        self._pace()

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if not isinstance(event, ResponseProtocolError):
            yield from super()._handle_event(event)
        elif status := self._can_answer(event):
            yield from self._answer(event.stream_id, error_response(status, client_text(status, event.message)))
        elif self._has_answered(event.stream_id):
            # The answer is complete; the client need not send the rest (RFC 9113 section 8.1).
            self.h2_conn.reset_stream(event.stream_id, ErrorCodes.NO_ERROR)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())
        else:
            yield from super()._handle_event(event)

    def _can_answer(self, event: ResponseProtocolError) -> int | None:
        stream = self.h2_conn.streams.get(event.stream_id)
        if stream is None or stream.state_machine.headers_sent or not self.is_open_for_us(event.stream_id):
            return None
        return event.code.http_status_code()

    def _has_answered(self, stream_id: int) -> bool:
        return not self.is_closed(stream_id) and not self.is_open_for_us(stream_id)

    def _answer(self, stream_id: int, response: BlockResponse) -> layer.CommandGenerator[None]:
        fields = [(b":status", b"%d" % response.status)]
        fields += [(name.lower().encode(), value.encode()) for name, value in response.headers]
        self.h2_conn.send_headers(stream_id, fields)
        self.h2_conn.send_data(stream_id, response.body, end_stream=True)
        yield commands.SendData(self.conn, self.h2_conn.data_to_send())

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        match event:
            case h2.events.RequestReceived():
                yield from self._on_request(event)
                return False
            case h2.events.TrailersReceived() if not are_good_trailers(event.headers or ()):
                return (yield from super().handle_h2_event(self._cut(event.stream_id)))
            case _:
                return (yield from super().handle_h2_event(event))

    def _on_request(self, event: h2.events.RequestReceived) -> layer.CommandGenerator[None]:
        assert event.stream_id is not None
        ended = event.stream_ended is not None
        try:
            request = read_request(event.headers or (), ended=ended)
        except BadHead as error:
            yield from self._refuse(event.stream_id, error, ended=ended)
            return
        self.streams[event.stream_id] = StreamState.HEADERS_RECEIVED
        yield ReceiveHttp(RequestHeaders(event.stream_id, request, end_stream=ended))

    def _cut(self, stream_id: int) -> h2.events.StreamReset:
        """Ends a stream as if the client had."""
        if not self.is_closed(stream_id):
            self.h2_conn.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
        return h2.events.StreamReset(stream_id=stream_id, error_code=ErrorCodes.PROTOCOL_ERROR, remote_reset=False)

    def _refuse(self, stream_id: int, error: BadHead, *, ended: bool) -> layer.CommandGenerator[None]:
        yield from self._answer(stream_id, bad_head_response(error))
        if not ended and not self.is_closed(stream_id):
            self.h2_conn.reset_stream(stream_id, ErrorCodes.NO_ERROR)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())


class PolicedHttp2Client(PacedHttp2, Http2Client):
    """Towards the origin."""

    h2_conf = h2.config.H2Configuration(**{**Http2Connection.h2_conf_defaults, "client_side": True})
    window = ORIGIN_WINDOW
    towards_client = False

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pace()

    def piles(self) -> set[int]:
        """Also streams that wait for their turn, because the origin limits how many it serves at a time."""
        return {self.their_stream_id[number] for number in self.h2_conn.stream_buffers} | set(self.stream_queue)

    def pile(self, stream_id: int) -> int:
        queued = self.stream_queue.get(stream_id, ())
        return super().pile(stream_id) + sum(len(event.data) for event in queued if isinstance(event, RequestData))

    def wire_id(self, stream_id: int) -> int | None:
        return self.our_stream_id.get(stream_id)
