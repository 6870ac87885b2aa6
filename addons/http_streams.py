"""One request and its answer in the engine: early answers, the check at the moment of sending, clean failures.

These classes replace the engine's own (see `install`), so that no HTTP message takes a way that is not policed.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as engine_http
from mitmproxy.proxy.layers.http import (
    DropStream,
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)
from mitmproxy.proxy.layers.http._hooks import (
    HttpConnectHook,
    HttpRequestHeadersHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)

from codex_network_proxy.policy.header_edits import ResolvedEdits

from .blocked import DISCARD_LIMIT, refuse_undecided
from .flow_control import Jam
from .flow_requests import SOCKET_PORT
from .http1 import PolicedHttp1Server
from .http1_origin import PolicedHttp1Client
from .http2 import PolicedHttp2Client, PolicedHttp2Server
from .http_answers import answer_problem
from .http_tunnels import TunnelHttpStream
from .secret_edits import secret_edits, with_secrets
from .streaming import has_view
from .upstream_errors import SOCKET_FAILURE
from .websockets import carrier


class PolicedHttpStream(TunnelHttpStream):
    """Answers a refused upload at once, and sends a request only if it is the one that was approved."""

    _answered = False
    _body_follows = False
    _discarded = 0
    _edits: ResolvedEdits | None = None
    _expect: str | None = None

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the engine's own, with a look at every command on its way out."""
        if isinstance(event, Jam):
            yield from self.on_jam(event)
            return
        generator = super()._handle_event(event)
        reply: Any = None
        while True:
            try:
                command = generator.send(reply)
            except StopIteration:
                break
            if isinstance(command, SendHttp) and self._edits is None:
                reply = yield command
            else:
                reply = yield from self._pass_on(command)
        if self.client_state == self.state_errored and self.server_state in (self.state_errored, self.state_done):
            # The engine keeps a stream that failed for as long as its connection lasts.
            yield from self.drop()

    def _pass_on(self, command: commands.Command) -> layer.CommandGenerator[Any]:
        match command:
            case HttpRequestHeadersHook():
                self._before_hooks()
                yield from self._run(command)
                self._close_gaps()
            case HttpConnectHook():
                yield from self._run(command)
                self._close_gaps()
            case commands.StartHook():
                yield from self._run(command)
            case SendHttp(event=RequestHeaders() as head) if self._edits:
                edits, self._edits = self._edits, None
                return (yield SendHttp(with_secrets(head, edits), command.connection))
            case DropStream():
                yield from self.drop()
            case commands.Log():
                pass  # about a request or its answer: nothing that may be told
            case _:
                return (yield command)
        return None

    def _run(self, hook: commands.StartHook) -> layer.CommandGenerator[None]:
        """At once where nobody has to wait: the way up and down again costs more than most hooks do."""
        session = self.session
        # A hook that a layer inside this one waits for is that layer's business.
        if session is None or session.unwinds or hook.blocking is not True or not session.run_hook(hook):
            yield hook

    # The request's head

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        """Only here it is known whether a body follows; HTTP/2 need not announce one."""
        self._body_follows = not event.end_stream
        yield from super().state_wait_for_request_headers(event)
        if self._answered:
            self.server_state = self.state_done

    def _before_hooks(self) -> None:
        self._expect = self.flow.request.headers.pop("expect", None)
        if self._body_follows and (session := self.session):
            session.bodies.add(self.flow.id)

    def _close_gaps(self) -> None:
        """The hooks have run, or were kept from it: what nobody has answered must be allowed by now."""
        if self.flow.error:
            return
        if self.flow.response is None and not self._is_allowed():
            refuse_undecided(self.flow)
        if self.flow.response:
            # Whoever answered, nobody needs the body.
            self.flow.request.stream = True
        elif self._expect and self._expect.lower() == "100-continue":  # the only one that RFC 9110 knows
            # Now the engine may ask for the body; it takes the field away again before anything is sent.
            self.flow.request.headers["expect"] = self._expect

    def _is_allowed(self) -> bool:
        session, data = self.session, self.flow.request.data
        if session is None or self.flow.is_replay == "request":
            return False
        if data.method != b"CONNECT":
            return session.approved(self.flow) is not None
        target = session.tunnel.request.target if session.tunnel else None
        return target is not None and (target.host.text, target.port) == (data.host, data.port)

    # Early answers

    def start_request_stream(self) -> layer.CommandGenerator[None]:
        """A body follows. A request that was already answered is answered now, not after its body."""
        if self.flow.response:
            yield from self._answer_early()
        elif (yield from self.make_server_connection()):
            yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, False), self.context.server)
            self.client_state = self.state_stream_request_body
        elif not self._answered:
            self.client_state = self.state_errored

    def _answer_early(self) -> layer.CommandGenerator[None]:
        assert self.flow.response
        response = self.flow.response
        self._answered = True
        self.client_state = self._state_discard
        response.timestamp_start = time.time()
        yield HttpResponseHeadersHook(self.flow)
        response.timestamp_end = time.time()
        yield HttpResponseHook(self.flow)
        self.server_state = self.state_done
        self.flow.live = False
        yield SendHttp(ResponseHeaders(self.stream_id, response, False), self.context.client)
        if response.raw_content:
            yield SendHttp(ResponseData(self.stream_id, response.raw_content), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def _state_discard(self, event: events.Event) -> layer.CommandGenerator[None]:
        match event:
            case RequestData():
                self._discarded += len(event.data)
                if self._discarded > DISCARD_LIMIT:
                    self.client_state = self.state_errored
                    error = ResponseProtocolError(self.stream_id, "refused", ErrorCode.CANCEL)
                    yield SendHttp(error, self.context.client)
            case RequestEndOfMessage():
                self.client_state = self.state_done
                yield from self.drop()

    def state_stream_request_body(
        self, event: RequestData | RequestEndOfMessage | RequestTrailers
    ) -> layer.CommandGenerator[None]:
        """Without trailers: they may name any header, and no policy has seen them."""
        if not isinstance(event, RequestTrailers):
            yield from super().state_stream_request_body(event)

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if not isinstance(event, RequestTrailers):
            yield from super().state_consume_request_body(event)

    # Sending

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """The last look before anything is sent: only the very request that was approved goes out.

        Other addons may have changed it before the dial, and while it lasted.
        """
        if not self._is_allowed():
            yield from self._refuse_late()
            return False
        if not (yield from super().make_server_connection()):
            return False
        if not (self._is_allowed() and self._secrets_are_ready()):
            yield from self._refuse_late()
            return False
        return True

    def _secrets_are_ready(self) -> bool:
        session = self.session
        verdict = session.approved(self.flow) if session else None
        if session is None or verdict is None:
            return False
        if verdict.hook is not None:
            insecure = self.context.options.ssl_insecure
            self._edits = secret_edits(session, verdict, self.flow.server_conn, insecure=insecure)
        return verdict.hook is None or self._edits is not None

    def _refuse_late(self) -> layer.CommandGenerator[None]:
        """Something between the decision and the sending changed the request, or nothing ever allowed it."""
        complete = self.client_state == self.state_done
        refuse_undecided(self.flow)
        yield from self._answer_early()
        if complete:
            self.client_state = self.state_done
            yield from self.drop()

    # Answers

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        """An answer that HTTP does not know, or a switch of protocol that nobody asked for, is a failed upstream."""
        if problem := answer_problem(self.flow.request, event.response):
            yield SendHttp(RequestProtocolError(self.stream_id, problem, ErrorCode.CANCEL), self.context.server)
            error = ResponseProtocolError(self.stream_id, problem, ErrorCode.GENERIC_SERVER_ERROR)
            yield from self.handle_protocol_error(error)
        else:
            yield from super().state_wait_for_response_headers(event)

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        """An answer has just passed `answer_problem`, which looks at the same; a switch of protocols has not."""
        response = self.flow.response
        if not request and response and response.status_code != 101:
            return False
        return (yield from super().check_invalid(request))

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        if self._answered:
            # A client that leaves after our answer is no failure of the flow.
            self.client_state = self.server_state = self.state_errored
            return
        if isinstance(event, ResponseProtocolError) and self.flow.response is None:
            self._log_failure(event)
            event = self._as_told(event)
        yield from super().handle_protocol_error(event)

    def _log_failure(self, event: ResponseProtocolError) -> None:
        session = self.session
        approval = session.approvals.get(self.flow.id) if session else None
        status = event.code.http_status_code()
        if session and approval and status:
            session.unreached(approval.verdict, event.message, status)

    def _as_told(self, event: ResponseProtocolError) -> ResponseProtocolError:
        """The failure as the client hears of it: nothing about a unix socket but that it failed."""
        if self.flow.request.data.port != SOCKET_PORT or event.code.http_status_code() != 502:
            return event
        return ResponseProtocolError(event.stream_id, SOCKET_FAILURE, event.code)

    def flow_done(self) -> layer.CommandGenerator[None]:
        """A `101` has passed `answer_problem` and is a WebSocket; another addon's made-up one is not."""
        assert self.flow.response
        if self.flow.response.status_code != 101:
            yield from super().flow_done()
            return
        if answer_problem(self.flow.request, self.flow.response):
            self.client_state = self.server_state = self.state_errored
            yield commands.CloseConnection(self.context.client)
            return
        self.child_layer = carrier(self.context, self.flow, shown=has_view() and self.context.options.websocket)
        self._handle_event = self.passthrough  # type: ignore[method-assign]  # as the engine's own does
        yield from self.child_layer.handle_event(events.Start())
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)


def install() -> None:
    """Puts the policed classes where the engine looks them up: there is no other HTTP left in this process."""
    engine_http.HttpStream = PolicedHttpStream  # type: ignore[misc]
    engine_http.Http1Server = PolicedHttp1Server  # type: ignore[misc]
    engine_http.Http1Client = PolicedHttp1Client  # type: ignore[misc]
    engine_http.Http2Server = PolicedHttp2Server  # type: ignore[misc]
    engine_http.Http2Client = PolicedHttp2Client  # type: ignore[misc]
    # It writes every field that it packs or unpacks into the log, secrets too.
    logging.getLogger("hpack").setLevel(logging.WARNING)
