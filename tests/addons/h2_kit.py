"""HTTP/2 by hand, as client or origin, polite or not: nothing is checked before it is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings
from h2.errors import ErrorCodes

from .engine_kit import HOOKED, Handler, Lab, OriginPeer, Peer, Request

Fields = Sequence[tuple[bytes, bytes]]


@dataclass(slots=True)
class Stream:
    """What has come on one stream. `reset` is the error code of an RST_STREAM."""

    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.fields).get(b":status", b"0"))

    @property
    def text(self) -> str:
        return self.body.decode()

    def get(self, name: bytes) -> bytes | None:
        return dict(self.fields).get(name)


class Http2Peer:
    """One side of an HTTP/2 connection. With `greedy=False` received data is never acknowledged."""

    def __init__(self, peer: Peer, *, client: bool, greedy: bool = True, window: int | None = None) -> None:
        config = h2.config.H2Configuration(
            client_side=client,
            header_encoding=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
        )
        self.peer = peer
        self.h2 = h2.connection.H2Connection(config)
        self.streams: dict[int, Stream] = {}
        self.greedy = greedy
        self.unacknowledged: dict[int, int] = {}
        self.terminated: int | None = None
        self.closed = False
        if window is not None:
            self.h2.local_settings.initial_window_size = window
            self.h2.local_settings.acknowledge()

    async def begin(self) -> None:
        self.h2.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        if data := self.h2.data_to_send():
            await self.peer.send(data)

    async def read(self) -> bool:
        """One read from the wire; false at the end."""
        data = await self.peer.reader.read(1 << 16)
        if not data:
            self.closed = True
            return False
        for event in self.h2.receive_data(data):
            self._note(event)
        await self.flush()
        return True

    async def until(self, condition: Callable[[], bool]) -> bool:
        """Reads until the condition holds; false when the connection ended before."""
        while not condition():
            if not await self.read():
                return condition()
        return True

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.terminated = int(event.error_code or 0)
            return
        number = getattr(event, "stream_id", None)
        if not number:
            return
        stream = self.streams.setdefault(number, Stream())
        match event:
            case h2.events.RequestReceived() | h2.events.ResponseReceived():
                stream.fields = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
            case h2.events.TrailersReceived():
                stream.trailers = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
            case h2.events.DataReceived():
                stream.body += event.data or b""
                self._received(number, event.flow_controlled_length or 0)
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset():
                stream.reset = int(event.error_code or 0)
                stream.ended = True

    def _received(self, number: int, length: int) -> None:
        if self.greedy:
            self.h2.acknowledge_received_data(length, number)
        else:
            self.unacknowledged[number] = self.unacknowledged.get(number, 0) + length

    async def acknowledge(self) -> None:
        for number, length in self.unacknowledged.items():
            self.h2.acknowledge_received_data(length, number)
        self.unacknowledged.clear()
        await self.flush()

    async def start(self, fields: Fields, *, end: bool = True) -> int:
        """Opens a stream with these very fields; its number."""
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = Stream()
        self.h2.send_headers(number, list(fields), end_stream=end)
        await self.flush()
        return number

    async def data(self, number: int, data: bytes, *, end: bool = False) -> None:
        """Sends a body piece by piece, as the other side's windows allow."""
        at = 0
        while at < len(data) or (end and at == len(data)):
            room = 0
            if self.streams[number].reset is None:
                room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            piece = data[at : at + room]
            if piece or not data:
                at += len(piece)
                self.h2.send_data(number, piece, end_stream=end and at == len(data))
                await self.flush()
                if at == len(data):
                    return
            elif self.streams[number].reset is not None or not await self.read():
                raise ConnectionResetError

    async def answer(self, number: int) -> Stream:
        await self.until(lambda: self.streams[number].ended)
        return self.streams[number]

    async def ask(self, fields: Fields, body: bytes | None = None) -> Stream:
        number = await self.start(fields, end=body is None)
        if body is not None:
            await self.data(number, body, end=True)
        return await self.answer(number)


def get(port: int, path: bytes = b"/ok", *fields: tuple[bytes, bytes], method: bytes = b"GET") -> Fields:
    """A good request head for the hooked host."""
    authority = f"{HOOKED}:{port}".encode()
    return [(b":method", method), (b":scheme", b"https"), (b":authority", authority), (b":path", path), *fields]


async def http2(
    lab: Lab, port: int, *, host: str = HOOKED, greedy: bool = True, window: int | None = None
) -> Http2Peer:
    """An HTTP/2 client inside an intercepted tunnel."""
    peer = await lab.tunnel(port, host, alpn=("h2",))
    client = Http2Peer(peer, client=True, greedy=greedy, window=window)
    await client.begin()
    return client


Respond = Callable[[Http2Peer, int], Awaitable[None]]


async def fine(origin: Http2Peer, number: int) -> None:
    origin.h2.send_headers(number, [(b":status", b"200"), (b"content-length", b"4")])
    origin.h2.send_data(number, b"fine", end_stream=True)


def http2_origin(respond: Respond = fine, *, greedy: bool = True, window: int | None = None) -> Handler:
    """Answers each stream when its request has ended; requests are recorded with their fields as lines."""

    async def handler(peer: OriginPeer) -> None:
        side = Http2Peer(peer, client=False, greedy=greedy, window=window)
        await side.begin()
        answered: set[int] = set()
        while await side.read():
            for number, stream in list(side.streams.items()):
                if stream.ended and stream.reset is None and number not in answered:
                    answered.add(number)
                    head = b"\r\n".join(b"%b: %b" % pair for pair in stream.fields)
                    peer.origin.requests.append(Request(b"HTTP/2\r\n" + head + b"\r\n\r\n", bytes(stream.body)))
                    await respond(side, number)
                    await side.flush()

    return handler


__all__ = ["ErrorCodes", "Http2Peer", "Stream", "fine", "get", "http2", "http2_origin"]
