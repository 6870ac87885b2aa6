"""An HTTP/2 client that sends what it is told, also what no client should."""

from __future__ import annotations

from collections.abc import Iterable

import h2.config
import h2.connection
import h2.events

from .raw import Client
from .wire import Ended, Fields, Head, Response

Pairs = Iterable[tuple[bytes, bytes]]


class StreamCut(EOFError):
    """The stream, or the whole connection, was ended without an answer."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"ended with code {code}")
        self.code = code


class _Answer:
    """One answer while it comes in."""

    def __init__(self) -> None:
        self.interim: list[int] = []
        self.fields: Fields = ()
        self.body = b""
        self.trailers: Fields = ()
        self.complete = False
        self.cut: StreamCut | None = None

    def response(self) -> Response:
        if not self.complete:
            raise self.cut or StreamCut(None)
        status = int(dict(self.fields)[":status"])
        return Response(status, "", Head("", self.fields), self.body, self.trailers, tuple(self.interim))


class Http2Client:
    """Speaks over a connection that has TLS with ALPN `h2` already. Nothing of what is sent is checked."""

    def __init__(self, client: Client) -> None:
        self.client = client
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding="latin-1",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.connection.update_settings({2: 0})
        self._answers: dict[int, _Answer] = {}
        self._ended: StreamCut | None = None
        self.flush()

    def flush(self) -> None:
        if data := self.connection.data_to_send():
            self.client.send(data)

    def start(self, fields: Pairs, end: bool = True) -> int:
        """Sends a request's head on a stream of its own; returns the stream's number."""
        number = self.connection.get_next_available_stream_id()
        self._answers[number] = _Answer()
        self.connection.send_headers(number, list(fields), end_stream=end)
        self.flush()
        return number

    def send_body(self, number: int, body: bytes, end: bool = True) -> None:
        """As fast as the other side makes room."""
        at = 0
        while at < len(body):
            room = min(self.connection.local_flow_control_window(number), self.connection.max_outbound_frame_size)
            if room == 0:
                self.receive()
                continue
            piece = body[at : at + room]
            at += len(piece)
            self.connection.send_data(number, piece, end_stream=end and at == len(body))
            self.flush()
        if not body and end:
            self.connection.end_stream(number)
            self.flush()

    def receive(self) -> None:
        """Takes in whatever comes next. Raises `StreamCut` when the connection has ended."""
        try:
            data = self.client.stream.some()
        except ConnectionError:
            data = b""
        if not data:
            self._ended = self._ended or StreamCut(None)
            raise self._ended
        for event in self.connection.receive_data(data):
            self._take(event)
        if self._ended is None:
            self.flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self._ended = StreamCut(int(event.error_code or 0))
            return
        number = getattr(event, "stream_id", None)
        answer = self._answers.get(number) if number else None
        if answer is None:
            return
        match event:
            case h2.events.InformationalResponseReceived(headers=fields):
                answer.interim.append(int(dict(_text(fields))[":status"]))
            case h2.events.ResponseReceived(headers=fields):
                answer.fields = _text(fields)
            case h2.events.DataReceived(data=data, flow_controlled_length=length, stream_id=int(number)):
                answer.body += data or b""
                self.connection.acknowledge_received_data(int(length or 0), number)
            case h2.events.TrailersReceived(headers=fields):
                answer.trailers = _text(fields)
            case h2.events.StreamEnded():
                answer.complete = True
            case h2.events.StreamReset(error_code=code):
                answer.cut = StreamCut(int(code or 0))

    def wait(self, number: int) -> Response:
        """The whole answer on that stream. Raises `StreamCut` when there will be none."""
        answer = self._answers[number]
        while not answer.complete and answer.cut is None:
            self.receive()
        return answer.response()

    def body_so_far(self, number: int, at_least: int) -> bytes:
        """Waits for that many bytes of an answer that is still coming in."""
        answer = self._answers[number]
        while len(answer.body) < at_least and answer.cut is None:
            self.receive()
        return answer.body

    def ask(self, fields: Pairs, body: bytes = b"") -> Response:
        number = self.start(fields, end=not body)
        if body:
            self.send_body(number, body)
        return self.wait(number)

    def ended(self) -> bool:
        """True when the other side has ended the connection; waits for the socket's time-out."""
        try:
            while True:
                self.receive()
        except (StreamCut, Ended):
            return True


def _text(fields: Iterable[tuple[bytes | str, bytes | str]] | None) -> Fields:
    def text(value: bytes | str) -> str:
        return value.decode("latin-1") if isinstance(value, bytes) else value

    return tuple((text(name), text(value)) for name, value in fields or ())


def get(authority: str, path: str = "/t", *fields: tuple[bytes, bytes], method: str = "GET") -> Pairs:
    """The fields of a well-formed request."""
    return (*_pseudo(method.encode(), authority.encode(), path.encode()), *fields)


def _pseudo(method: bytes, authority: bytes, path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return ((b":method", method), (b":scheme", b"https"), (b":authority", authority), (b":path", path))
