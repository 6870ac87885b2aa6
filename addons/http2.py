"""HTTP/2 towards the client, with failures told in plain text as on every other door."""

from __future__ import annotations

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import ResponseProtocolError
from mitmproxy.proxy.layers.http._http2 import Http2Server

from codex_network_proxy.policy.responses import error_response

from .upstream_errors import client_text


class PolicedHttp2Server(Http2Server):
    """Answers a failed upstream with our text instead of the engine's page."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError) and (status := self._can_answer(event)):
            response = error_response(status, client_text(status, event.message))
            fields = [(b":status", b"%d" % status)]
            fields += [(name.lower().encode(), value.encode()) for name, value in response.headers]
            self.h2_conn.send_headers(event.stream_id, fields)
            self.h2_conn.send_data(event.stream_id, response.body, end_stream=True)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())
        else:
            yield from super()._handle_event(event)

    def _can_answer(self, event: ResponseProtocolError) -> int | None:
        stream = self.h2_conn.streams.get(event.stream_id)
        if stream is None or stream.state_machine.headers_sent or not self.is_open_for_us(event.stream_id):
            return None
        return event.code.http_status_code()
