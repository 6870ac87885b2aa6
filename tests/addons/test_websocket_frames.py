"""WebSocket frames: what is well-formed passes unchanged, in any pieces; the first byte that is not ends it."""

from __future__ import annotations

import pytest

from codex_network_proxy.addons.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PROTOCOL_ERROR,
    TEXT,
    FrameError,
    FrameReader,
    close_frame,
)

MASK = b"\x01\x02\x03\x04"


def frame(payload: bytes = b"", opcode: int = TEXT, *, masked: bool = True, first: int = 0x80) -> bytes:
    size = len(payload)
    if size < 126:
        length, rest = size, b""
    else:
        length, rest = (126, size.to_bytes(2)) if size < 1 << 16 else (127, size.to_bytes(8))
    return bytes([first | opcode, length | (0x80 if masked else 0)]) + rest + (MASK if masked else b"") + payload


def pass_through(data: bytes, step: int, *, masked: bool = True, extended: bool = False) -> tuple[bytes, FrameReader]:
    reader, passed = FrameReader(masked=masked, extended=extended), b""
    for at in range(0, len(data), step):
        passed += reader.feed(data[at : at + step])
    return passed, reader


GOOD = (
    pytest.param(frame(b"hello"), id="a text"),
    pytest.param(frame(b"x" * 200, BINARY), id="a length of two bytes"),
    pytest.param(frame(b"x" * 70_000, BINARY), id="a length of eight bytes"),
    pytest.param(frame(b"a", first=0) + frame(b"b", CONTINUATION), id="a message in two frames"),
    pytest.param(frame(b"a", first=0) + frame(b"", PING) + frame(b"b", CONTINUATION), id="a ping between them"),
    pytest.param(frame(b"") + frame(b"", PING) + frame(b""), id="empty frames"),
)


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("data", GOOD)
def test_good_frames_pass_as_they_are(data: bytes, step: int) -> None:
    passed, reader = pass_through(data, step)
    assert passed == data
    assert reader.between_frames
    assert not reader.ended


def test_a_servers_frames_are_not_masked() -> None:
    data = frame(b"hello", masked=False)
    assert pass_through(data, 1, masked=False)[0] == data


def test_an_agreed_extension_may_mark_its_frames() -> None:
    data = frame(b"z", first=0xC0)
    assert pass_through(data, 1, extended=True)[0] == data


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"GET / HTTP/1.1\r\n", id="a request"),
        pytest.param(frame(b"", 3), id="an opcode that means nothing"),
        pytest.param(frame(b"", 11), id="a control opcode that means nothing"),
        pytest.param(frame(b"a", first=0xC0), id="a reserved bit without an extension"),
        pytest.param(frame(b"a", first=0xA0), id="another reserved bit"),
        pytest.param(frame(b"a", masked=False), id="a client's frame without a mask"),
        pytest.param(frame(b"", PING, first=0), id="a control frame in pieces"),
        pytest.param(frame(b"x" * 126, PING), id="a control frame that is too long"),
        pytest.param(frame(b"a", CONTINUATION), id="a continuation of nothing"),
        pytest.param(frame(b"a", first=0) + frame(b"b"), id="a new message inside another"),
    ],
)
def test_the_first_bad_byte_ends_it(bad: bytes, step: int) -> None:
    reader = FrameReader(masked=True, extended=False)
    good = frame(b"good")
    assert reader.feed(good) == good
    with pytest.raises(FrameError):
        b"".join(reader.feed(bad[at : at + step]) for at in range(0, len(bad), step))


def test_what_came_before_a_bad_frame_is_handed_back() -> None:
    reader = FrameReader(masked=True, extended=False)
    with pytest.raises(FrameError) as caught:
        reader.feed(frame(b"good") + b"bad bytes")
    assert caught.value.good == frame(b"good")
    assert reader.between_frames


def test_a_servers_frame_with_a_mask_is_refused() -> None:
    with pytest.raises(FrameError):
        FrameReader(masked=False, extended=False).feed(frame(b"a"))


def test_an_extension_does_not_open_the_other_bits() -> None:
    reader = FrameReader(masked=True, extended=True)
    with pytest.raises(FrameError):
        reader.feed(frame(b"a", PING, first=0xC0))


def test_nothing_passes_after_a_close() -> None:
    passed, reader = pass_through(frame(b"\x03\xe8", CLOSE) + b"GET / HTTP/1.1", 1)
    assert passed == frame(b"\x03\xe8", CLOSE)
    assert reader.ended


def test_half_a_head_is_held_back() -> None:
    reader = FrameReader(masked=True, extended=False)
    assert reader.feed(frame(b"a")[:3]) == b""
    assert not reader.between_frames


@pytest.mark.parametrize("masked", [True, False])
def test_our_own_close_frame_is_a_good_one(masked: bool) -> None:
    reader = FrameReader(masked=masked, extended=False)
    data = close_frame(PROTOCOL_ERROR, masked=masked)
    assert reader.feed(data) == data
    assert reader.ended
