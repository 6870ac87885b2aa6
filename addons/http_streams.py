"""One request and its answer in the engine: early answers, the check at the moment of sending, clean failures.

These classes replace the engine's own (see `install`), so that no HTTP message takes a way that is not policed.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as engine_http
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHeadersHook, HttpResponseHook

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.policy.errors import SecretUnavailable
from codex_network_proxy.policy.header_edits import ResolvedEdits, apply, resolve_edits

from .blocked import DISCARD_LIMIT, refuse_undecided
from .flow_requests import asks_for_websocket
from .http1 import PolicedHttp1Client, PolicedHttp1Server
from .http2 import PolicedHttp2Server
from .sessions import Session, session_of

logger = logging.getLogger("codex_network_proxy")


class PolicedHttpStream(HttpStream):
    """Answers a refused upload at once, and sends a request only if it is the one that was approved."""

    _discarded = 0
    _edits: ResolvedEdits | None = None

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the engine's own, with the head of an edited request exchanged on its way to the wire."""
        generator = super()._handle_event(event)
        reply: Any = None
        while True:
            try:
                command = generator.send(reply)
            except StopIteration:
                return
            reply = yield self._on_the_wire(command)

    def _on_the_wire(self, command: commands.Command) -> commands.Command:
        """Secrets are added to a copy, here and nowhere else: the flow that others see never holds them (spec A4.9)."""
        if self._edits is None or not isinstance(command, engine_http.SendHttp):
            return command
        if not isinstance(command.event, RequestHeaders):
            return command
        request = self.flow.request.copy()
        request.headers = http.Headers(apply(request.headers.fields, self._edits))
        self._edits = None
        head = RequestHeaders(self.stream_id, request, command.event.end_stream)
        return engine_http.SendHttp(head, command.connection)

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        """Only here it is known whether a body follows; HTTP/2 need not announce one."""
        if not event.end_stream and (session := session_of(self.context.client.id)):
            session.note_body(event.request)
        yield from super().state_wait_for_request_headers(event)

    def start_request_stream(self) -> layer.CommandGenerator[None]:
        """A body follows. A request that was already answered is answered now, not after its body."""
        if self.flow.response:
            yield from self._answer_early()
        else:
            yield from super().start_request_stream()

    def _answer_early(self) -> layer.CommandGenerator[None]:
        assert self.flow.response
        response = self.flow.response
        response.timestamp_start = time.time()
        self.client_state = self._state_discard
        yield HttpResponseHeadersHook(self.flow)
        response.timestamp_end = time.time()
        yield HttpResponseHook(self.flow)
        self.server_state = self.state_done
        self.flow.live = False
        yield engine_http.SendHttp(ResponseHeaders(self.stream_id, response, False), self.context.client)
        if response.raw_content:
            yield engine_http.SendHttp(ResponseData(self.stream_id, response.raw_content), self.context.client)
        yield engine_http.SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def _state_discard(self, event: Any) -> layer.CommandGenerator[None]:
        match event:
            case RequestData():
                self._discarded += len(event.data)
                if self._discarded > DISCARD_LIMIT:
                    self.client_state = self.state_errored
                    yield from self._cut_client()
            case RequestEndOfMessage():
                self.client_state = self.state_done
                yield engine_http.DropStream(self.stream_id)
            case RequestTrailers():
                pass

    def _cut_client(self) -> layer.CommandGenerator[None]:
        if self.flow.request.is_http2:
            error = ResponseProtocolError(self.stream_id, "refused", ErrorCode.CANCEL)
            yield engine_http.SendHttp(error, self.context.client)
        else:
            yield commands.CloseConnection(self.context.client)

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """The last look before anything is sent: only the very request that was approved goes out."""
        session = session_of(self.context.client.id)
        verdict = session.approved(self.flow) if session else None
        if session is None or verdict is None:
            yield from self._refuse()
            return False
        if not (yield from super().make_server_connection()):
            return False
        if verdict.hook is None:
            return True
        self._edits = self._secret_edits(session, verdict)
        if self._edits is None:
            yield from self._refuse()
        return self._edits is not None

    def _secret_edits(self, session: Session, verdict: Allowed) -> ResolvedEdits | None:
        """The hook's edits with their secrets, or nothing where they may not go (spec A4.9)."""
        assert verdict.hook
        try:
            if verdict.hook.edits.inject and not self._upstream_is_verified(verdict):
                raise SecretUnavailable("secrets are sent over verified TLS to the hooked host only")
            if session.secrets is None:
                raise SecretUnavailable("no source of secrets")
            return resolve_edits(verdict.hook.edits, session.secrets)
        except SecretUnavailable as error:
            logger.error("request refused (request_id=%s): %s", verdict.request_id, error)
            if session.authority:
                session.authority.deny(verdict.request)
            return None

    def _upstream_is_verified(self, verdict: Allowed) -> bool:
        server, target = self.flow.server_conn, verdict.request.target
        return (
            not self.context.options.ssl_insecure
            and server.tls_established
            and server.address == (target.host.text, target.port)
            and (target.host.is_literal or server.sni == target.host.text)
        )

    def _refuse(self) -> layer.CommandGenerator[None]:
        """Something between the decision and the sending changed the request, or nothing ever allowed it."""
        refuse_undecided(self.flow)
        self.server_state = self.state_errored
        yield from self._answer_early()
        if self.flow.request.timestamp_end:
            self.client_state = self.state_done
            yield engine_http.DropStream(self.stream_id)

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        """An answer that HTTP does not know, or a switch of protocol that nobody asked for, is a failed upstream."""
        status = event.response.status_code
        websocket = status == 101 and asks_for_websocket(self.flow.request.headers)
        if not (200 <= status <= 599 or websocket):
            yield commands.CloseConnection(self.flow.server_conn)
            message = f"the origin answered with status {status:03d}"
            error = ResponseProtocolError(self.stream_id, message, ErrorCode.GENERIC_SERVER_ERROR)
            yield from self.handle_protocol_error(error)
            return
        yield from super().state_wait_for_response_headers(event)

    def handle_connect_regular(self) -> layer.CommandGenerator[None]:
        """A tunnel that is only relayed is dialled before the answer; an inspected one when a request has passed."""
        session = session_of(self.context.client.id)
        tunnel = session.tunnel if session else None
        if self.flow.response is None and tunnel is None:
            refuse_undecided(self.flow)
        if self.flow.response is None and tunnel is not None and not tunnel.inspect:
            error = yield commands.OpenConnection(self.context.server)
            if error:
                self.flow.response = _upstream_failure(error)
        self.child_layer = layer.NextLayer(self.context)
        yield from self.handle_connect_finish()  # type: ignore[no-untyped-call]  # the engine's own


def _upstream_failure(error: str) -> http.Response:
    return http.Response.make(502, f"upstream failure: {error}", {"content-type": "text/plain"})


def install() -> None:
    """Puts the policed classes where the engine looks them up: there is no other HTTP left in this process."""
    engine_http.HttpStream = PolicedHttpStream  # type: ignore[misc]
    engine_http.Http1Server = PolicedHttp1Server  # type: ignore[misc]
    engine_http.Http1Client = PolicedHttp1Client  # type: ignore[misc]
    engine_http.Http2Server = PolicedHttp2Server  # type: ignore[misc]
