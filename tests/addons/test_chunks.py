"""Chunked bodies: every good spelling is read in any pieces, every other one is refused before it passes."""

from __future__ import annotations

import h11
import pytest
from h11._receivebuffer import ReceiveBuffer

from codex_network_proxy.addons.chunks import LINE_LIMIT, ChunkReader


def read(data: bytes, step: int) -> tuple[bytes, bool, bytes]:
    """What is read when `data` comes in pieces of `step` bytes: the body, whether it ended, and what was left."""
    reader, buffer, body, fed = ChunkReader(), ReceiveBuffer(), b"", 0
    while fed < len(data):
        buffer += data[fed : fed + step]
        fed += step
        while (part := reader(buffer)) is not None:
            if isinstance(part, h11.EndOfMessage):
                assert not list(part.headers)
                return body, True, bytes(buffer) + data[fed:]
            body += part.data
    return body, False, bytes(buffer)


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    ("data", "body"),
    [
        pytest.param(b"5\r\nhello\r\n0\r\n\r\n", b"hello", id="one chunk"),
        pytest.param(b"0\r\n\r\n", b"", id="no chunk"),
        pytest.param(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc", id="two chunks"),
        pytest.param(b"00A\r\n0123456789\r\n000\r\n\r\n", b"0123456789", id="leading zeros and capitals"),
        pytest.param(b"1;name=value\r\na\r\n0;x\r\n\r\n", b"a", id="extensions"),
        pytest.param(b'1 ;name="a;b"\r\na\r\n0\r\n\r\n', b"a", id="a quoted extension"),
        pytest.param(b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", id="line breaks as data"),
        pytest.param(b"1\r\na\r\n0\r\nx-sum: 1\r\nhost: evil.test\r\n\r\n", b"a", id="trailers, which are dropped"),
    ],
)
def test_good_bodies(data: bytes, body: bytes, step: int) -> None:
    assert read(data + b"GET /next", step) == (body, True, b"GET /next")


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\r\n", id="no size"),
        pytest.param(b"five\r\nhello\r\n", id="a word"),
        pytest.param(b"-5\r\nhello\r\n", id="a sign"),
        pytest.param(b"+5\r\nhello\r\n", id="a plus sign"),
        pytest.param(b"0x5\r\nhello\r\n", id="a prefix"),
        pytest.param(b"1_0\r\n", id="an underscore"),
        pytest.param(b" 5\r\nhello\r\n", id="a space before it"),
        pytest.param(b"FFFFFFFFFFFFFFFFF\r\nhello\r\n", id="more digits than a size can have"),
        pytest.param(b"5\nhello\r\n", id="a bare line feed"),
        pytest.param(b"5;a\nb\r\nhello\r\n", id="a line feed in an extension"),
        pytest.param(b"5;a\x00b\r\nhello\r\n", id="a control byte in an extension"),
        pytest.param(b"5\r\nhello0\r\n\r\n", id="no line break behind the data"),
        pytest.param(b"5\r\nhello!\r\n0\r\n\r\n", id="more data than announced"),
        pytest.param(b"5\r\nhello\n0\r\n\r\n", id="a bare line feed behind the data"),
        pytest.param(b"5;" + b"a" * LINE_LIMIT, id="an extension without an end"),
        pytest.param(b"0\r\nno colon\r\n\r\n", id="a trailer without a colon"),
        pytest.param(b"0\r\nx-a: b\rc\r\n\r\n", id="a bare carriage return in a trailer"),
        pytest.param(b"0\r\n x: y\r\n\r\n", id="a trailer that starts with a space"),
        pytest.param(b"0\r\n" + b"x: y\r\n" * LINE_LIMIT, id="trailers without an end"),
    ],
)
def test_bad_bodies_are_refused(data: bytes, step: int) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        read(data, step)


@pytest.mark.parametrize("data", [b"", b"5", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"0\r\n", b"0\r\n\r"])
def test_an_unfinished_body_waits(data: bytes) -> None:
    assert read(data, 1)[1] is False


def test_an_early_end_is_an_error() -> None:
    with pytest.raises(h11.RemoteProtocolError):
        ChunkReader().read_eof()
