"""An HTTP/2 origin over TLS: answers `/t`, `/echo` and `/trailers` on every stream."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from .server import RecordingStream, Server


class Http2Origin(Server):
    """Each request is recorded as the JSON list of its fields, and its trailers as another."""

    def __init__(self, tls: ssl.SSLContext, name: str = "h2") -> None:
        super().__init__(tls=tls)
        self.name = name

    def serve(self, stream: RecordingStream) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        stream.sock.sendall(connection.data_to_send())
        requests: dict[int, list[tuple[str, str]]] = {}
        while data := stream.some():
            try:
                received = connection.receive_data(data)
            except h2.exceptions.ProtocolError:
                return  # What was sent is recorded.
            for event in received:
                self._react(connection, event, requests, stream)
            stream.sock.sendall(connection.data_to_send())

    def _react(
        self,
        connection: h2.connection.H2Connection,
        event: h2.events.Event,
        requests: dict[int, list[tuple[str, str]]],
        stream: RecordingStream,
    ) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=int(number), headers=fields):
                requests[number] = _text(fields or [])
                self.recorder.note(lambda: stream.connection.heads.append(json.dumps(requests[number]).encode()))
            case h2.events.TrailersReceived(headers=fields):
                trailers = _text(fields or [])
                self.recorder.note(lambda: stream.connection.heads.append(json.dumps(trailers).encode()))
            case h2.events.DataReceived(stream_id=int(number), flow_controlled_length=int(length)):
                connection.acknowledge_received_data(length, number)
            case h2.events.StreamEnded(stream_id=int(number)):
                self._answer(connection, number, requests[number])

    def _answer(self, connection: h2.connection.H2Connection, number: int, fields: list[tuple[str, str]]) -> None:
        body = f"ok from {self.name}\n".encode()
        if dict(fields)[":path"].startswith("/echo"):
            body = json.dumps({"headers": fields}).encode()
        connection.send_headers(
            number, [(":status", "200"), ("x-origin", self.name), ("content-length", str(len(body)))]
        )
        trailing = dict(fields)[":path"].startswith("/trailers")
        connection.send_data(number, body, end_stream=not trailing)
        if trailing:
            connection.send_headers(number, [("x-checksum", "1234")], end_stream=True)


def _text(fields: Iterable[tuple[bytes | str, bytes | str]]) -> list[tuple[str, str]]:
    def text(value: bytes | str) -> str:
        return value.decode() if isinstance(value, bytes) else value

    return [(text(name), text(value)) for name, value in fields]
