"""HTTP/2 frames (RFC 9113), as little of it as a load client and an origin need: nothing is encoded twice."""

from __future__ import annotations

from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x8
END_STREAM = ACK = 0x1
END_HEADERS = 0x4

STATUS_200 = 0x88
"""`:status: 200` as the first byte of a header block: an entry of the static table (RFC 7541, appendix A)."""

LARGEST_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_INITIAL_WINDOW_SIZE = 0x4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def greeting() -> bytes:
    """Settings and a window that never closes: small answers need no flow control."""
    settings = _INITIAL_WINDOW_SIZE.to_bytes(2) + LARGEST_WINDOW.to_bytes(4)
    opened = (LARGEST_WINDOW - _DEFAULT_WINDOW).to_bytes(4)
    return frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, opened)


def acknowledgement(kind: int, payload: bytes) -> bytes:
    """What SETTINGS and PING want in return."""
    return frame(kind, ACK, 0, payload if kind == PING else b"")


def get_block(authority: str, path: str) -> bytes:
    """The header block of a GET over HTTPS, in the static table's terms and without dynamic entries."""
    return b"\x82\x87" + _literal(4, path) + _literal(1, authority)


def answer_block(length: int) -> bytes:
    """`:status: 200` and a `content-length`."""
    return bytes((STATUS_200,)) + _literal(28, str(length))


def _literal(index: int, value: str) -> bytes:
    """A header whose name is in the static table, without indexing (RFC 7541, section 6.2.2)."""
    name = bytes((index,)) if index < 15 else bytes((15, index - 15))
    return name + bytes((len(value),)) + value.encode()


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """(type, flags, stream, payload) of each complete frame."""
        data = self._rest + data if self._rest else data
        start, end = 0, len(data)
        while end - start >= 9:
            after = start + 9 + int.from_bytes(data[start : start + 3])
            if after > end:
                break
            stream = int.from_bytes(data[start + 5 : start + 9]) & LARGEST_WINDOW
            yield data[start + 3], data[start + 4], stream, data[start + 9 : after]
            start = after
        self._rest = data[start:]
