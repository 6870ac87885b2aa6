"""Chunked bodies, read by the letter (RFC 9112 section 7.1): what could be read in two ways is refused."""

from __future__ import annotations

import re

import h11
from h11._receivebuffer import ReceiveBuffer

LINE_LIMIT = 16 * 1024
"""Bytes of one chunk's head with its extensions, and of all trailers."""

_HEAD = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?\r\n")
_TRAILERS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)*")


class ChunkReader:
    """Has the form of the engine's own body readers. Extensions and trailers are read and dropped."""

    def __init__(self) -> None:
        self._left = 0
        self._behind_chunk = False
        self._in_trailers = False

    def __call__(self, buffer: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        """The next piece, the end, or nothing yet. Raises `h11.RemoteProtocolError`."""
        if not self._left and not self._in_trailers and not self._read_head(buffer):
            return None
        if self._in_trailers:
            return self._read_trailers(buffer)
        data = buffer.maybe_extract_at_most(self._left)
        if data is None:
            return None
        self._left -= len(data)
        self._behind_chunk = not self._left
        return h11.Data(data=bytes(data))

    def read_eof(self) -> h11.EndOfMessage:
        """The peer has closed, and the last chunk has not come. Raises always."""
        raise h11.RemoteProtocolError("incomplete chunked body")

    def _read_head(self, buffer: ReceiveBuffer) -> bool:
        if self._behind_chunk:
            end = bytes(buffer)[:2]
            if not b"\r\n".startswith(end):
                raise h11.RemoteProtocolError("malformed chunk")
            if len(end) < 2:
                return False
            buffer.maybe_extract_at_most(2)
            self._behind_chunk = False
        line = buffer.maybe_extract_next_line()
        if line is None:
            _check_incomplete(bytes(buffer))
            return False
        head = _HEAD.fullmatch(line) if len(line) <= LINE_LIMIT else None
        if head is None:
            raise h11.RemoteProtocolError("malformed chunk")
        self._left = int(head[1], 16)
        self._in_trailers = not self._left
        return True

    def _read_trailers(self, buffer: ReceiveBuffer) -> h11.EndOfMessage | None:
        data = bytes(buffer)
        end = 2 if data.startswith(b"\r\n") else data.find(b"\r\n\r\n") + 4
        if end == 3:
            if len(data) > LINE_LIMIT:
                raise h11.RemoteProtocolError("endless trailers")
            return None
        lines = buffer.maybe_extract_at_most(end) or b""
        if len(lines) > LINE_LIMIT or not _TRAILERS.fullmatch(lines[:-2]):
            raise h11.RemoteProtocolError("malformed trailers")
        return h11.EndOfMessage()


def _check_incomplete(line: bytes) -> None:
    if len(line) > LINE_LIMIT or b"\n" in line or (line and not re.match(rb"[0-9A-Fa-f\r]", line)):
        raise h11.RemoteProtocolError("malformed chunk")
