"""WebSocket frames as they pass by (RFC 6455 section 5): headers are checked, payloads are neither kept nor read."""

from __future__ import annotations

from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

PROTOCOL_ERROR = (1002).to_bytes(2)
TOO_BIG = (1009).to_bytes(2)


class FrameError(Exception):
    """The peer sent what is no frame. `good` is what came before it and may pass."""

    def __init__(self, good: bytes) -> None:
        super().__init__("malformed WebSocket frame")
        self.good = good


class FrameReader:
    """One direction. `masked`: the frames are a client's. `extended`: an extension was agreed on and may use RSV1."""

    def __init__(self, *, masked: bool, extended: bool) -> None:
        self._masked = masked
        self._extended = extended
        self._head = b""
        self._left = 0
        self._in_message = False
        self._closing = False

    @property
    def between_frames(self) -> bool:
        return not self._left and not self._head

    @property
    def ended(self) -> bool:
        """Whether a close frame has passed; what follows it counts for nothing."""
        return self._closing and self.between_frames

    def feed(self, data: bytes) -> bytes:
        """What may be passed on. Raises `FrameError`; nothing may be fed after that."""
        good: list[bytes] = []
        while data and not self.ended:
            if self._left:
                good.append(data[: self._left])
                data = data[self._left :]
                self._left -= len(good[-1])
                continue
            try:
                head, data = self._read_head(self._head + data)
            except FrameError:
                raise FrameError(b"".join(good)) from None
            good.append(head)
        return b"".join(good)

    def _read_head(self, data: bytes) -> tuple[bytes, bytes]:
        """A complete frame header and what follows it; a part of one is kept for later."""
        self._head = b""
        size = _head_size(data)
        if size is not None:
            self._check(data[0], data[1])
        if size is None or len(data) < size:
            self._head = data
            return b"", b""
        self._left = _payload_size(data)
        self._note(data[0])
        return data[:size], data[size:]

    def _check(self, first: int, second: int) -> None:
        opcode, final, reserved = first & 0x0F, bool(first & 0x80), first & 0x70
        control = opcode >= CLOSE
        allowed = 0x40 if self._extended and opcode in (TEXT, BINARY) else 0
        if (
            opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
            or reserved & ~allowed
            or bool(second & 0x80) != self._masked
            or (control and (not final or second & 0x7F > 125))
            or (not control and self._in_message != (opcode == CONTINUATION))
        ):
            raise FrameError(b"")

    def _note(self, first: int) -> None:
        opcode, final = first & 0x0F, bool(first & 0x80)
        if opcode < CLOSE:
            self._in_message = not final
        self._closing = opcode == CLOSE


def _head_size(have: bytes) -> int | None:
    if len(have) < 2:
        return None
    extra = {126: 2, 127: 8}.get(have[1] & 0x7F, 0)
    return 2 + extra + (4 if have[1] & 0x80 else 0)


def _payload_size(have: bytes) -> int:
    size = have[1] & 0x7F
    if size < 126:
        return size
    return int.from_bytes(have[2 : 4 if size == 126 else 10])


def close_frame(code: bytes, *, masked: bool) -> bytes:
    """A close frame with a status; the mask of zeros leaves it as it is."""
    return b"\x88\x82" + bytes(4) + code if masked else b"\x88\x02" + code


class FrameRelay(layer.Layer):
    """Passes frames on as they come, in constant memory, and ends both sides at the first byte that is none."""

    def __init__(self, context: Context, *, extended: bool) -> None:
        super().__init__(context)
        self._readers: dict[Connection, FrameReader] = {
            context.client: FrameReader(masked=True, extended=extended),
            context.server: FrameReader(masked=False, extended=extended),
        }

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            yield from self._relay(event)
        elif isinstance(event, events.ConnectionClosed):
            yield from self._close()

    def _relay(self, event: events.DataReceived) -> layer.CommandGenerator[None]:
        if not self._readers:
            return
        reader, other = self._readers[event.connection], self._other(event.connection)
        try:
            yield from self._send(other, reader.feed(event.data))
        except FrameError as error:
            yield from self._send(other, error.good)
            yield from self._send(other, self._goodbye(other))
            if self._readers[other].between_frames:
                yield from self._send(event.connection, self._goodbye(event.connection))
            yield from self._close()
            return
        if all(side.ended for side in self._readers.values()):
            yield from self._close()

    def _send(self, connection: Connection, data: bytes) -> layer.CommandGenerator[None]:
        if data:
            yield commands.SendData(connection, data)

    def _goodbye(self, connection: Connection) -> bytes:
        return close_frame(PROTOCOL_ERROR, masked=connection == self.context.server)

    def _other(self, connection: Connection) -> Connection:
        return self.context.server if connection == self.context.client else self.context.client

    def _close(self) -> layer.CommandGenerator[None]:
        self._readers = {}
        yield commands.CloseConnection(self.context.server)
        yield commands.CloseConnection(self.context.client)
